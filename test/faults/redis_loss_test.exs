defmodule Koma.Faults.RedisLossTest do
  use Koma.CoreCase, async: false

  import ExUnit.CaptureLog
  import Koma.RedisDamage

  alias Koma.{Redis, RedisServer, Storm}
  alias Koma.Store.{Collector, Jobs}

  @params %{"steps" => 6, "step_ms" => 10}

  setup %{dir: dir} do
    {:ok, server: RedisServer.start(Path.join(dir, "redis"))}
  end

  describe "Redis stays up" do
    test "and loses everything: live jobs are answered once, and other gateways can read them again",
         c do
      start(c)
      done = submit!(@params)["id"]
      await_end(done)

      long =
        for seed <- 1..2, do: submit!(%{"steps" => 60, "step_ms" => 20, "seed" => seed})["id"]

      Enum.each(long, &await_step/1)

      {ids, log} =
        with_log(fn ->
          under_load(fn ->
            for _ <- 1..3 do
              pause(:rand.uniform(200))
              RedisServer.ask!(c.server, ~w(FLUSHALL))
            end
          end)
        end)

      assert_answered(long ++ ids)
      refute log =~ "another gateway has adopted"
      # The collector forgets nothing because Redis does not list it yet.
      assert Collector.collect().jobs == 0

      for id <- [done | long ++ ids] do
        eventually(fn -> match?({:ok, _, [_ | _]}, Koma.Store.Redis.read(id, 0)) end)
      end
    end

    for {kind, keys} <- [
          {"hashes and events of live jobs", ["koma:job:*", "koma:events:*"]},
          {"lists of jobs, leases, and the name of what it knows",
           ["koma:live:*", "koma:jobs:*", "koma:finished", "koma:gateway*", "koma:generation"]}
        ] do
      test "and loses #{kind}: live jobs are answered once", c do
        start(c)
        patterns = unquote(keys)

        {ids, log} =
          with_log(fn ->
            under_load(fn ->
              for _ <- 1..12, do: pause(:rand.uniform(50)) && lose(c.server, patterns)
            end)
          end)

        assert_answered(ids)
        refute log =~ "another gateway has adopted"
        eventually(fn -> intact?(c.server) end)
      end
    end

    test "and forgets its scripts: it learns them again, and nobody is refused", c do
      start(c)

      {ids, log} =
        with_log(fn ->
          under_load(fn ->
            for _ <- 1..10, do: RedisServer.ask!(c.server, ~w(SCRIPT FLUSH)) && pause(20)
          end)
        end)

      assert_answered(ids)
      refute log =~ "is down"
    end
  end

  test "a job that another gateway adopted, ended and forgot is not taken for one that Redis lost",
       c do
    start(c, lease_ms: 600_000)
    id = submit!(%{"steps" => 10_000, "step_ms" => 20})["id"]
    await_step(id)
    me = Koma.Store.Redis.gateway()

    log =
      capture_log(fn ->
        RedisServer.ask!(c.server, ["DEL", "koma:gateway:" <> me])
        adopt = Redis.script(:adopt, [id, me, "gw_other", 60_000, "toy"])
        assert {:ok, ["ok" | _]} = Redis.command(adopt)
        RedisServer.ask!(c.server, ["DEL", "koma:job:" <> id, "koma:events:" <> id])
        eventually(fn -> Jobs.latest(id) == :error end)
      end)

    assert log =~ "another gateway has adopted #{id}"
    assert RedisServer.ask!(c.server, ["EXISTS", "koma:job:" <> id]) == "0"
  end

  test "a maxmemory-policy that deletes jobs is an error in the log, on each connection", c do
    RedisServer.ask!(c.server, ~w(CONFIG SET maxmemory-policy allkeys-lru))
    log = capture_log(fn -> start(c) end)
    assert log =~ "maxmemory-policy is allkeys-lru, set it to noeviction"

    log =
      capture_log(fn ->
        RedisServer.kill(c.server)
        RedisServer.restart(%{c.server | arguments: ~w(--maxmemory-policy volatile-ttl)})
        eventually(fn -> Redis.up?() end)
      end)

    assert log =~ "maxmemory-policy is volatile-ttl"
  end

  describe "what is stored is damaged:" do
    test "a gateway starts, sets aside the jobs that cannot be read, and all others go on", c do
      start(c, models: [toy(%{slots: 1})])
      running = submit!(%{"steps" => 10_000, "step_ms" => 10})["id"]
      await_step(running)
      damages = hash_damages() ++ event_damages()
      queued = for _ <- damages, do: submit!(@params)["id"]
      sound = for _ <- 1..3, do: submit!(@params)["id"]
      stop_core()
      for {{_what, damage}, id} <- Enum.zip(damages, queued), do: damage.(&ask(c, &1), id)
      {aside, readable} = Enum.split(queued, length(hash_damages()))

      capture_log(fn ->
        start(c)
        Koma.cancel(running, %Caller{})
        assert_answered(sound ++ readable ++ [insist()])

        for {{what, _damage}, id} <- Enum.zip(hash_damages(), aside) do
          assert {^what, {:error, %{code: "internal"}}} = {what, Koma.job(id, %Caller{})}
        end
      end)

      listed = ask(c, ~w(HKEYS koma:quarantine))
      for id <- aside, do: assert("koma:job:#{id}" in listed)
      for id <- aside, do: assert(ask(c, ["EXISTS", "koma:quarantine:koma:job:#{id}"]) == "1")
      assert length(Koma.jobs(%Caller{}, %{})) == 1 + length(sound ++ readable) + 1
      assert Collector.collect().jobs == 0
    end

    test "lists of another type go aside and are made anew; every job is answered", c do
      start(c, models: [toy(%{slots: 1})])
      done = submit!(@params)["id"]
      await_end(done)
      running = submit!(%{"steps" => 30, "step_ms" => 10})["id"]
      await_step(running)
      queued = for _ <- 1..3, do: submit!(@params)["id"]
      stop_core()
      me = Koma.Store.Redis.gateway()

      for key <- ["koma:live:", "koma:taken:", "koma:gateway:"],
          do: damage_type(c, key <> me)

      for key <- ["gateways", "finished", "generation", "jobs:", "quarantine"],
          do: damage_type(c, "koma:" <> key)

      capture_log(fn ->
        start(c)
        assert_answered([running | queued] ++ [insist()])
        eventually(fn -> intact?(c.server) end)
        eventually(fn -> length(Koma.jobs(%Caller{}, %{})) == 6 end)
        eventually(fn -> match?({:ok, [_ | _]}, Jobs.all()) end)
      end)
    end

    test "under a gateway that lives it is written anew: every job is answered once", c do
      start(c)

      {ids, _log} =
        with_log(fn ->
          under_load(fn ->
            for {_what, damage} <- hash_damages() ++ event_damages() do
              pause(:rand.uniform(40))
              with [_ | _] = ids <- live(c.server), do: damage.(&ask(c, &1), Enum.random(ids))
            end

            for key <- ["koma:finished", "koma:gateways", "koma:jobs:"],
                do: ask(c, ["SET", key, "x"])
          end)
        end)

      assert_answered(ids)
    end

    test "a follower on another gateway of a job that nobody can read is told of an end", c do
      start(c, lease_ms: 600_000, collect_ms: 600_000)
      id = submit!(%{"steps" => 10_000, "step_ms" => 20})["id"]
      await_step(id)
      stop_core()
      ask(c, ["HSET", "koma:job:" <> id, "owner", "gw_elsewhere"])
      ask(c, ["SET", "koma:gateway:gw_elsewhere", "nonode@nohost"])
      start(c, models: [toy()])
      {follower, _events} = follow({:job, id})

      capture_log(fn ->
        ask(c, ["DEL", "koma:gateway:gw_elsewhere"])
        ask(c, ["HSET", "koma:job:" <> id, "record", "damaged"])

        assert %{type: "failed", data: %{"code" => "internal"}} =
                 List.last(heard(follower, 20_000))
      end)
    end

    test "the story of a finished job that cannot be read has its end all the same", c do
      start(c)
      id = submit!(@params)["id"]
      events = as_stored(await_end(id))
      ask(c, ["HSET", "koma:job:" <> id, "packed", "damaged"])
      assert {:ok, %{state: "completed", seq: seq}, told} = Koma.Store.Redis.read(id, 0)
      assert Enum.map(told, & &1.seq) == Enum.to_list(1..seq)
      assert List.last(told).data["outputs"] == List.last(events).data["outputs"]
      assert Koma.Store.Redis.read(id, seq) |> elem(2) == []
    end
  end

  defp damage_type(c, key) do
    ask(c, ["DEL", key])
    # No key of these names is a list.
    ask(c, ["RPUSH", key, "x"])
  end

  # Whoever adopts jobs, or lists them, finds what it looks for.
  defp intact?(server) do
    types = for {key, type} <- expected(), do: RedisServer.ask!(server, ["TYPE", key]) == type
    Enum.all?(types)
  end

  defp expected do
    me = Koma.Store.Redis.gateway()

    [{"koma:gateway:" <> me, "string"}, {"koma:generation", "string"}] ++
      [{"koma:gateways", "set"}, {"koma:jobs:", "zset"}, {"koma:finished", "zset"}]
  end

  defp start(c, overrides \\ []) do
    options = [redis: RedisServer.url(c.server), lease_ms: 600, collect_ms: 300]
    start_core(c.dir, Keyword.merge(options, overrides))
  end

  # Four callers submit eight jobs each while `fault` happens, and try again when they are refused.
  defp under_load(fault) do
    callers = for _ <- 1..4, do: Task.async(fn -> for _ <- 1..8, do: insist() end)
    fault.()
    callers |> Task.await_many(60_000) |> List.flatten()
  end

  defp insist do
    case Koma.submit(%{"task" => "toy.run", "params" => @params}, %Caller{}) do
      {:ok, job} ->
        job["id"]

      {:error, %{code: code}} when code in ~w(unavailable overloaded) ->
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

  # Each ended once, completed, its numbers without a gap.
  defp assert_answered(ids) do
    for id <- ids do
      eventually(fn -> match?({:ok, %{"state" => "completed"}}, Koma.job(id, %Caller{})) end)
      {:ok, _job, events, _preview} = Koma.subscribe(id, 0, %Caller{})
      assert Storm.fault(events, digest(events)) == nil
    end
  end
end
