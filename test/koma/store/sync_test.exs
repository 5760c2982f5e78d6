defmodule Koma.Store.SyncTest do
  use ExUnit.Case, async: false

  import Koma.StoreSteps

  alias Koma.Job.{Followers, Record}
  alias Koma.{Options, Telemetry}
  alias Koma.Store.{Disk, Jobs}

  # A disk that fails while `failing` is 1: an error of fdatasync, as the kernel tells it.
  setup do
    dir = Koma.TestFolder.new("sync")
    Options.put(Options.new!(data_dir: dir))
    start_supervised!(Followers)
    failing = :atomics.new(1, [])

    sync = fn file ->
      if :atomics.get(failing, 1) == 1, do: {:error, :eio}, else: :file.datasync(file)
    end

    {:ok, dir: dir, journal: Path.join(dir, "journal"), failing: failing, sync: sync}
  end

  test "an end that cannot be brought to the disk is neither told nor read; once it is there it is both",
       c do
    start(c)
    record = run(accept("job_1"), ~w(queued started))
    :ok = Followers.join("job_1")
    fail(c, true)
    assert Jobs.append(ends(record)) == [:later]
    refute_received {:koma_events, "job_1", _events}
    assert {:ok, %{state: "running"}} = Jobs.fetch("job_1")
    assert {:ok, %{state: "completed"}} = Jobs.latest("job_1")
    fail(c, false)
    assert_receive {:koma_events, "job_1", [%{type: "completed", seq: 3}]}
    assert {:ok, %{state: "completed"}} = Jobs.fetch("job_1")
    stop_supervised!(Disk)
    start(c)
    assert {:ok, %{state: "completed"}} = Jobs.fetch("job_1")
    assert length(Jobs.events("job_1", 0)) == 3
  end

  test "after a sync that failed no job is accepted until the journal was written anew; what was refused stays so",
       c do
    start(c)
    accept("job_kept")
    %{inode: inode} = File.stat!(c.journal)
    fail(c, true)
    assert {:error, %{code: "storage_full", message: message}} = Jobs.accept(record("job_lost"))
    assert message =~ "I/O error"
    # The next sync would succeed, as the kernel tells an error once; that proves nothing.
    fail(c, false)
    Koma.CoreCase.eventually(fn -> Jobs.accept(record("job_next")) == :ok end)
    assert File.stat!(c.journal).inode != inode
    assert Jobs.fetch("job_lost") == :error
    stop_supervised!(Disk)
    start(c)
    assert Jobs.fetch("job_lost") == :error
    for id <- ~w(job_kept job_next), do: assert({:ok, _record} = Jobs.fetch(id))
  end

  test "each sync that fails is counted", c do
    start_supervised!({Telemetry, []})
    me = self()
    told = fn event, measured, about, nil -> send(me, {event, measured, about}) end
    :ok = Telemetry.attach(:sync_test, [[:koma, :store, :sync_failed]], told, nil)
    start(c)
    fail(c, true)
    assert {:error, _refused} = Jobs.accept(record("job_1"))
    assert_receive {[:koma, :store, :sync_failed], %{count: 1}, %{reason: :eio}}
  end

  test "many jobs whose ends fail to be stored all end once, in the order of their events", c do
    start(c)
    records = for n <- 1..30, do: run(accept("job_#{n}"), ~w(queued started))
    for %{id: id} <- records, do: :ok = Followers.join(id)
    fail(c, true)
    tasks = for record <- records, do: Task.async(fn -> Jobs.append(ends(record)) end)
    assert tasks |> Task.await_many() |> List.flatten() |> Enum.uniq() == [:later]
    fail(c, false)
    for %{id: id} <- records, do: assert_receive({:koma_events, ^id, [%{type: "completed"}]})
    refute_received {:koma_events, _id, _again}
    assert Jobs.unfinished() == []
    assert Jobs.live(nil) == 0
  end

  defp ends(record) do
    event = Record.event(record, "completed", %{"outputs" => [], "attempt" => 1})
    [{Record.apply(record, event), event}]
  end

  defp fail(c, failing?), do: :atomics.put(c.failing, 1, if(failing?, do: 1, else: 0))

  defp start(c) do
    options = [dir: c.dir, retention_jobs: 1_000, journal_bytes: 1_000_000, sync: c.sync]
    start_supervised!({Disk, options}, restart: :temporary)
  end

  defp accept(id) do
    record = record(id)
    assert Jobs.accept(record) == :ok
    record
  end

  defp record(id), do: %Record{id: id, task: "toy.run", model: "toy", created_at: 1}
end
