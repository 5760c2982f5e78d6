defmodule Koma.Faults.RedisTest do
  use Koma.CoreCase, async: false

  import ExUnit.CaptureLog

  alias Koma.{OtherBeam, Redis, RedisServer, Storm}
  alias Koma.Store.Jobs

  @params %{"steps" => 8, "step_ms" => 10}

  setup %{dir: dir} do
    server = RedisServer.start(Path.join(dir, "redis"))
    {:ok, server: server}
  end

  describe "while jobs come and run," do
    test "Redis is killed and started again: all that was accepted is answered once", c do
      start(c)

      {ids, _log} =
        with_log(fn ->
          under_load(fn ->
            RedisServer.kill(c.server)
            pause(1_000)
            RedisServer.restart(c.server)
          end)
        end)

      assert_answered(ids)
    end

    test "Redis hangs and goes on: all that was accepted is answered once", c do
      start(c, redis_timeout_ms: 200)

      {ids, log} =
        with_log(fn ->
          under_load(fn ->
            RedisServer.hang(c.server)
            pause(2_000)
            RedisServer.go_on(c.server)
          end)
        end)

      assert_answered(ids)
      assert [_one_line] = Regex.scan(~r/Redis \S+ is down/, log)
    end

    test "Redis is full for a while: new jobs are refused, the others complete", c do
      start(c)

      long =
        for seed <- 1..2, do: submit!(%{"steps" => 60, "step_ms" => 20, "seed" => seed})["id"]

      Enum.each(long, &await_step/1)

      ids =
        under_load(fn ->
          RedisServer.ask!(c.server, ~w(CONFIG SET maxmemory 1))
          assert {:error, %{code: "storage_full", retry_after_ms: retry}} = submit()
          assert retry > 0
          RedisServer.ask!(c.server, ~w(CONFIG SET maxmemory 0))
        end)

      assert_answered(long ++ ids)
    end

    test "Redis loses everything: the gateway that lives writes its jobs anew", c do
      start(c, models: [toy(%{slots: 1})])
      done = submit!(@params)["id"]
      finished = as_stored(await_end(done))
      running = submit!(%{"steps" => 100, "step_ms" => 20})["id"]
      await_step(running)
      queued = for seed <- 1..5, do: submit!(Map.put(@params, "seed", seed))["id"]

      capture_log(fn ->
        RedisServer.kill(c.server)
        RedisServer.wipe(c.server)
        RedisServer.restart(c.server)
        assert_answered([running | queued])
      end)

      # What it says to other gateways is the same again.
      for id <- [done, running | queued] do
        eventually(fn -> match?({:ok, _, [_ | _]}, Koma.Store.Redis.read(id, 0)) end)
      end

      assert {:ok, %{state: "completed"}, ^finished} = Koma.Store.Redis.read(done, 0)
    end
  end

  describe "while Redis is away," do
    test "refusals have a code and wait for nothing; reading and cancelling go on", c do
      start(c, models: [toy(%{slots: 1})], redis_timeout_ms: 200)
      done = submit!(@params)["id"]
      finished = as_stored(await_end(done))
      running = submit!(%{"steps" => 10_000, "step_ms" => 20})["id"]
      await_step(running)

      capture_log(fn ->
        RedisServer.hang(c.server)
        eventually(fn -> not Redis.up?() end)

        # The queue's process would answer late if it waited.
        refusals = for _ <- 1..50, do: Task.async(fn -> submit() end)

        for {:error, error} <- Task.await_many(refusals, 2_000) do
          assert %{code: "unavailable", retry_after_ms: retry} = error
          assert retry > 0
        end

        assert {:ok, %{"state" => "completed"}} = Koma.job(done, %Caller{})
        assert {:ok, _job, ^finished, nil} = Koma.subscribe(done, 0, %Caller{})
        assert {:error, %{code: "unavailable"}} = Koma.job("job_elsewhere", %Caller{})

        # The machine is free at once; the end is told when it is stored.
        assert Koma.cancel(running, %Caller{}) == :ok
        eventually(fn -> Koma.Job.Processes.whereis(running) == nil end)
        assert {:ok, %{"state" => "running"}} = Koma.job(running, %Caller{})
        RedisServer.go_on(c.server)
        assert %{type: "cancelled"} = List.last(await_end(running))
      end)

      assert {:error, %{code: "not_found"}} = Koma.job("job_elsewhere", %Caller{})
    end

    test "a gateway starts; it serves as soon as Redis is there", c do
      RedisServer.kill(c.server)

      log =
        capture_log(fn ->
          start(c)
          assert {:error, %{code: "unavailable"}} = submit()
          pause(700)
        end)

      assert [_one_line] = Regex.scan(~r/Redis \S+ is down: nobody listens there/, log)
      RedisServer.restart(c.server)
      assert_answered(under_load(fn -> :ok end))
    end

    test "an acceptance whose outcome is unknown is taken back: who was refused runs nothing",
         c do
      start(c, redis_timeout_ms: 200)

      capture_log(fn ->
        RedisServer.hang(c.server)
        refusals = for _ <- 1..5, do: Task.async(fn -> submit() end)
        for answer <- Task.await_many(refusals), do: assert({:error, _} = answer)
        RedisServer.go_on(c.server)
        eventually(fn -> Redis.up?() end)
      end)

      accepted = insist()
      assert_answered([accepted])
      eventually(fn -> match?({:ok, [%{id: ^accepted}]}, Jobs.all()) end)
    end
  end

  test "with a wrong password nothing is accepted, the log says why, once and without it", c do
    RedisServer.ask!(c.server, ~w(CONFIG SET requirepass right))

    log =
      capture_log(fn ->
        start(c, redis: RedisServer.url(c.server, ":wrong@"))
        assert {:error, %{code: "unavailable"}} = submit()
        pause(700)
      end)

    assert [_one_line] = Regex.scan(~r/is down: (WRONGPASS|ERR invalid password)/, log)
    refute log =~ ~r/:wrong|wrong@/
    RedisServer.ask!(c.server, ~w(CONFIG SET requirepass wrong), "right")
    assert_answered(under_load(fn -> :ok end))
  end

  # What dies, and by that what starts again; the follower hears one story with one end all the same.
  for part <- [
        Koma.Redis.Connection,
        Koma.Store.Redis.Writer,
        Koma.Store.Redis.Lease,
        Koma.Store.Redis.Watch
      ] do
    test "#{inspect(part)} dies: whoever follows a job hears it end, without a gap", c do
      start(c)
      id = submit!(%{"steps" => 40, "step_ms" => 20})["id"]
      await_step(id)
      listen(id)

      capture_log(fn ->
        ref = Process.monitor(unquote(part))
        Process.exit(GenServer.whereis(unquote(part)), :kill)
        assert_receive {:DOWN, ^ref, :process, _, :killed}
        assert_receive {:heard, heard}, 30_000
        eventually(fn -> match?({:ok, %{"state" => "completed"}}, Koma.job(id, %Caller{})) end)
        {:ok, _job, events, _preview} = Koma.subscribe(id, 0, %Caller{})
        assert Storm.fault(events, digest(events)) == nil
        assert as_stored(heard) == events
      end)

      assert_answered([insist()])
    end
  end

  describe "two gateways on one Redis:" do
    test "one is killed, the other answers all its jobs, each once", c do
      script = OtherBeam.submits(30, %{"steps" => 10, "step_ms" => 10})
      beam = OtherBeam.start(Path.join(c.dir, "other"), options(c), script)
      ids = OtherBeam.ids(beam)
      start(c)
      # Whoever polls any gateway sees the jobs of all.
      assert Enum.sort(for job <- Koma.jobs(%Caller{}, %{}), do: job["id"]) == Enum.sort(ids)
      early = for id <- ids, do: {id, seen(id)}
      capture_log(fn -> OtherBeam.kill(beam) end)
      assert_answered(ids)

      # Who comes back with the number it knows gets the rest of the same story.
      for {id, events} <- early,
          do: assert({:ok, _, all} = Jobs.read(id, 0)) && assert(List.starts_with?(all, events))

      {:ok, records} = Jobs.all()
      assert length(records) == 30
    end

    test "one is cut off and comes back: no job is answered twice, every follower hears one story",
         c do
      script = """
      ids = Koma.OtherBeam.submit(10, %{"steps" => 20, "step_ms" => 20})
      for id <- ids, do: Koma.OtherBeam.follow(id)
      Koma.CoreCase.await_step(hd(ids))
      IO.puts("IDS " <> Enum.join(ids, " "))
      """

      beam = OtherBeam.start(Path.join(c.dir, "other"), options(c), script)
      start(c)
      ids = OtherBeam.ids(beam)
      OtherBeam.signal(beam, "STOP")
      stories = assert_answered(ids)
      OtherBeam.signal(beam, "CONT")
      told = collect(beam, length(ids), %{})
      OtherBeam.kill(beam)

      for {id, story} <- Enum.zip(ids, stories) do
        assert Enum.reverse(told[id]) == for(e <- story, do: {e.seq, e.type, e.at})
      end
    end

    test "Redis hangs for longer than a lease: whoever lives keeps its jobs", c do
      script = OtherBeam.submits(1, %{"steps" => 400, "step_ms" => 20})
      options = Keyword.put(options(c), :redis_timeout_ms, 200)
      beam = OtherBeam.start(Path.join(c.dir, "other"), options, script)
      [id] = OtherBeam.ids(beam)
      start(c, redis_timeout_ms: 200)

      capture_log(fn ->
        RedisServer.hang(c.server)
        pause(3_000)
        RedisServer.go_on(c.server)
        eventually(fn -> match?({:ok, %{"state" => "completed"}}, Koma.job(id, %Caller{})) end)
      end)

      {:ok, _job, events, _preview} = Koma.subscribe(id, 0, %Caller{})
      assert milestones(events) == ~w(queued started completed)
    end

    test "a gateway that stops in an orderly way leaves its jobs to the other at once", c do
      stop = Path.join(c.dir, "stop")

      script = """
      #{OtherBeam.submits(6, %{"steps" => 2_000, "step_ms" => 20})}
      Koma.CoreCase.eventually(fn -> File.exists?(#{inspect(stop)}) end)
      Supervisor.stop(Koma.Core)
      """

      options = Keyword.put(options(c), :lease_ms, 60_000)
      beam = OtherBeam.start(Path.join(c.dir, "other"), options, script)
      ids = OtherBeam.ids(beam)
      start(c)
      File.touch!(stop)
      eventually(fn -> Enum.all?(ids, &(Jobs.owner(&1) == :here)) end)
      for id <- ids, do: assert(Koma.cancel(id, %Caller{}) == :ok)

      # It left word: a stop is not held against the jobs that ran.
      lost = for id <- ids, %{type: "retrying"} = event <- await_end(id), do: event.data["code"]
      assert lost != [] and Enum.uniq(lost) == ["unavailable"]
    end

    test "the owner of a job is known; another gateway does not cancel it in its place", c do
      beam =
        OtherBeam.start(
          Path.join(c.dir, "other"),
          options(c),
          OtherBeam.submits(1, %{"steps" => 9_999})
        )

      [id] = OtherBeam.ids(beam)
      start(c)
      assert {:ok, %{gateway: "gw_" <> _, node: "nonode@nohost"}} = Jobs.owner(id)
      assert {:ok, %{"state" => "running"}} = Koma.job(id, %Caller{})
      assert {:error, %{code: "unavailable"}} = Koma.cancel(id, %Caller{})
      OtherBeam.kill(beam)
      eventually(fn -> Jobs.owner(id) == :here end)
      assert Koma.cancel(id, %Caller{}) == :ok
      assert %{type: "cancelled"} = List.last(await_end(id))
    end

    test "an adopted job whose input is not on this gateway's disk fails with a code", c do
      script = """
      {:ok, writer} = Koma.Store.Artifacts.open("text/plain", nil)
      {:ok, file, _new} = Koma.Store.Artifacts.commit(writer, nil)
      inputs = %{"inputs" => %{"file" => file.id}}
      id = Koma.CoreCase.submit!(%{"steps" => 9_999, "step_ms" => 20}, inputs)["id"]
      Koma.CoreCase.await_step(id)
      IO.puts("IDS " <> id)
      """

      beam = OtherBeam.start(Path.join(c.dir, "other"), options(c), script)
      [id] = OtherBeam.ids(beam)
      start(c)
      OtherBeam.kill(beam)
      eventually(fn -> match?({:ok, %{"state" => "failed"}}, Koma.job(id, %Caller{})) end)
      assert {:ok, %{"error" => error}} = Koma.job(id, %Caller{})
      assert %{"code" => "artifact_not_found", "field" => "inputs.file"} = error
    end

    test "jobs of a model that this gateway does not serve wait for one that does", c do
      script = OtherBeam.submits(2, %{"steps" => 300, "step_ms" => 20})
      beam = OtherBeam.start(Path.join(c.dir, "other"), options(c), script)
      ids = OtherBeam.ids(beam)
      start(c, models: [])
      OtherBeam.kill(beam)
      pause(2_000)
      for id <- ids, do: assert({:ok, %{"state" => _live}} = Koma.job(id, %Caller{}))
      stop_core()
      start(c)
      eventually(fn -> Enum.all?(ids, &(Jobs.owner(&1) == :here)) end)
      for id <- ids, do: assert(Koma.cancel(id, %Caller{}) == :ok)
    end
  end

  test "after a restart of the only gateway its jobs go on, with no gap", c do
    start(c)
    done = submit!(@params)["id"]
    finished = as_stored(await_end(done))
    running = submit!(%{"steps" => 40, "step_ms" => 25})["id"]
    await_step(running)
    stop_core()
    start(c)
    assert {:ok, %{state: "completed"}, ^finished} = Jobs.read(done, 0)
    [events] = assert_answered([running])
    assert "retrying" in milestones(events)
  end

  defp options(c), do: [redis: RedisServer.url(c.server), lease_ms: 1_000]

  defp start(c, overrides \\ []), do: start_core(c.dir, Keyword.merge(options(c), overrides))

  defp submit, do: Koma.submit(%{"task" => "toy.run", "params" => @params}, %Caller{})

  # Four callers submit ten jobs each while `fault` happens, and try again when they are refused.
  defp under_load(fault) do
    callers = for _ <- 1..4, do: Task.async(fn -> for _ <- 1..10, do: insist() end)
    fault.()
    callers |> Task.await_many(60_000) |> List.flatten()
  end

  defp insist do
    case submit() do
      {:ok, job} ->
        job["id"]

      {:error, %{code: code}} when code in ~w(unavailable storage_full overloaded) ->
        pause(50)
        insist()
    end
  end

  defp pause(ms) do
    receive do
    after
      ms -> :ok
    end
  end

  # Each ended once, completed, its numbers without a gap; returns the stories.
  defp assert_answered(ids) do
    for id <- ids do
      # What lies between two answers of the store may come by either way: only a follower knows.
      eventually(fn -> match?({:ok, %{"state" => "completed"}}, Koma.job(id, %Caller{})) end)
      {:ok, _job, events, _preview} = Koma.subscribe(id, 0, %Caller{})
      assert Storm.fault(events, digest(events)) == nil
      events
    end
  end

  defp seen(id) do
    {:ok, _job, events, _preview} = Koma.subscribe(id, 0, %Caller{})
    Koma.unsubscribe(id)
    events
  end

  # Another process follows, from now on, and tells this one all that it heard.
  defp listen(id) do
    test = self()

    spawn_link(fn ->
      {follower, early} = follow({:job, id})
      send(test, :listening)
      send(test, {:heard, early ++ heard(follower, 30_000)})
    end)

    assert_receive :listening, 5_000
  end

  # What the followers there were told, until each has heard an end.
  defp collect(_beam, 0, told), do: told

  defp collect(beam, left, told) do
    receive do
      {^beam, {:data, {:eol, "END " <> _id}}} ->
        collect(beam, left - 1, told)

      {^beam, {:data, {:eol, "EVENT " <> words}}} ->
        [id, seq, type, at] = String.split(words)
        event = {String.to_integer(seq), type, String.to_integer(at)}
        collect(beam, left, Map.update(told, id, [event], &[event | &1]))

      {^beam, {:data, _log}} ->
        collect(beam, left, told)
    after
      30_000 -> raise "#{left} followers heard no end"
    end
  end
end
