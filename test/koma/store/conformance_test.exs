defmodule Koma.Store.ConformanceTest do
  use Koma.CoreCase, async: false

  import Koma.StoreSteps

  alias Koma.Job.{Followers, Record}
  alias Koma.{Options, RedisServer, Store}
  alias Koma.Store.Jobs

  # Every store keeps the same promises; each test runs with each of them.
  for store <- [:disk, :redis] do
    describe "#{store}:" do
      setup %{dir: dir} do
        {:ok, start: starter(unquote(store), dir)}
      end

      test "what was stored is there after the store was killed", %{start: start} do
        start.([])
        record = run(accept("job_1"), ~w(queued started progress))
        start.([])
        assert Jobs.fetch("job_1") == {:ok, later(record, unquote(store), 1)}
        assert Enum.map(Jobs.events("job_1", 0), & &1.seq) == [1, 2, 3]
        assert Enum.map(Jobs.events("job_1", 2), & &1.type) == ["progress"]
        assert [%{id: "job_1"} = record] = Jobs.unfinished()
        run(record, ~w(completed))
        start.([])
        assert Jobs.unfinished() == []
        assert {:ok, %{state: "completed"}, events} = Jobs.read("job_1", 1)
        assert Enum.map(events, & &1.seq) == [2, 3, 4]
      end

      test "a hundred acceptances at once are all stored when they return", %{start: start} do
        start.([])

        1..100
        |> Enum.map(fn n -> Task.async(fn -> accept("job_#{n}") end) end)
        |> Task.await_many()

        start.([])
        assert length(Jobs.unfinished()) == 100
      end

      test "a job that ended when it was accepted is read back as it was", %{start: start} do
        start.([])
        record = record("job_1")
        event = Record.event(record, "completed", %{"outputs" => [], "seed" => 7})
        record = Record.apply(record, event)
        assert Jobs.accept_ended(record, [event]) == :ok
        assert Jobs.read("job_1", 0) == {:ok, record, [event]}
        start.([])
        assert Jobs.read("job_1", 0) == {:ok, record, [event]}
        assert Jobs.unfinished() == []
      end

      test "of finished jobs the newest are kept, live ones always", %{start: start} do
        start.(retention_jobs: 3)
        accept("job_live")
        for n <- 1..10, do: run(accept("job_#{n}"), ~w(queued started completed))
        {:ok, kept} = Jobs.all()
        assert length(kept) == 4
        assert "job_live" in Enum.map(kept, & &1.id)
        start.(retention_jobs: 3)
        {:ok, kept} = Jobs.all()
        assert length(kept) == 4
      end

      test "what was forgotten stays forgotten; live jobs are not", %{start: start} do
        start.([])
        live = run(accept("job_live"), ~w(queued))
        run(accept("job_done"), ~w(queued started completed))
        assert Jobs.forget(["job_live", "job_done", "job_unknown"]) == :ok
        assert Jobs.fetch("job_done") == :error
        assert Jobs.fetch("job_live") == {:ok, live}
        start.([])
        assert Jobs.fetch("job_done") == :error
        assert [%{id: "job_live"}] = Jobs.unfinished()
      end

      test "a key sees its own jobs, newest first, up to a limit", %{start: start} do
        start.([])
        for n <- 1..5, do: accept("job_#{n}", key: "a", created_at: n)
        accept("job_6", key: "b", created_at: 6)
        run(accept("job_7", key: "a", created_at: 7), ~w(queued started completed))
        all? = fn _record -> true end
        assert for(r <- Jobs.list("a", all?, 3), do: r.id) == ~w(job_7 job_5 job_4)
        live? = fn record -> not Record.ended?(record) end
        assert for(r <- Jobs.list("a", live?, 2), do: r.id) == ~w(job_5 job_4)
        assert for(r <- Jobs.list("b", all?, 3), do: r.id) == ~w(job_6)
        assert Jobs.list(nil, all?, 3) == []
      end

      test "a job of this gateway is owned here, an unknown one by nobody", %{start: start} do
        start.([])
        accept("job_1")
        assert Jobs.owner("job_1") == :here
        assert Jobs.owner("job_2") == :error
        assert Jobs.owner("no id at all\r\nFLUSHALL") == :error
        assert Jobs.fetch("no id at all\r\nFLUSHALL") == :error
        assert Jobs.count_live() == %{{"toy", "accepted"} => 1}
      end
    end
  end

  # Each call kills the store, if there is one, and starts it (again).
  defp starter(store, dir) do
    redis = if store == :redis, do: start_redis(dir)

    fn overrides ->
      options = options(dir, [redis: redis] ++ overrides)
      Options.put(options)
      start_telemetry()
      if whereis = GenServer.whereis(writer(store)), do: kill(whereis)
      start_supervised!({Store, options}, restart: :temporary)
      # What is stored of this gateway's jobs comes from Redis as soon as it answers.
      if redis, do: settle()
    end
  end

  defp start_redis(dir) do
    server = RedisServer.start(Path.join(dir, "redis"))
    on_exit(fn -> System.cmd("kill", ["-KILL", "#{server.os_pid}"]) end)
    RedisServer.url(server)
  end

  defp start_telemetry do
    unless GenServer.whereis(Koma.Telemetry) do
      start_supervised!({Koma.Telemetry, []})
      start_supervised!(Followers)
    end
  end

  defp settle, do: _state = :sys.get_state(Koma.Store.Redis.Lease)

  defp writer(:disk), do: Koma.Store.Disk
  defp writer(:redis), do: Koma.Store.Redis.Writer

  # Its supervisor may not start it again meanwhile: that would be one owner more.
  defp kill(pid) do
    :ok = :sys.suspend(Store)
    ref = Process.monitor(pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^ref, :process, ^pid, :killed}
    stop_supervised(Store)
  end

  # Redis counts who owned a job: the store that was killed, then the one that was started.
  defp later(record, :redis, n), do: %{record | epoch: record.epoch + n}
  defp later(record, :disk, _n), do: record

  defp accept(id, fields \\ []) do
    record = struct!(record(id), fields)
    assert Jobs.accept(record) == :ok
    record
  end

  defp record(id), do: %Record{id: id, task: "toy.run", model: "toy", created_at: 1}
end
