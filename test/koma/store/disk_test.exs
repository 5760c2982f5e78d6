defmodule Koma.Store.DiskTest do
  use ExUnit.Case, async: false

  import Koma.StoreSteps

  alias Koma.Job.{Followers, Record}
  alias Koma.Options
  alias Koma.Store.{Disk, Journal, Jobs, Memory}

  setup do
    dir = Koma.TestFolder.new("jobs")
    Options.put(Options.new!(data_dir: dir))
    {:ok, dir: dir, journal: Path.join(dir, "journal")}
  end

  test "a record that was half written is cut off, and the next one follows a whole one", c do
    start(c.dir)
    accept("job_1")
    accept("job_2")
    kill(c.dir)
    stop_supervised!(Disk)
    %{size: size} = File.stat!(c.journal)

    for cut <- 1..20 do
      bytes = File.read!(c.journal)
      File.write!(c.journal, [bytes, binary_part(bytes, 0, min(cut * 7, byte_size(bytes) - 1))])
      start(c.dir)
      assert {:ok, _} = Jobs.fetch("job_1")
      assert {:ok, _} = Jobs.fetch("job_2")
      stop_supervised!(Disk)
      assert File.stat!(c.journal).size == size
    end
  end

  test "a flipped bit in the last record loses that one, and the start goes on", c do
    start(c.dir)
    accept("job_1")
    accept("job_2")
    stop_supervised!(Disk)
    bytes = File.read!(c.journal)
    at = byte_size(bytes) - 5
    <<head::binary-size(at), byte, tail::binary>> = bytes
    File.write!(c.journal, [head, Bitwise.bxor(byte, 1), tail])
    start(c.dir)
    assert {:ok, _} = Jobs.fetch("job_1")
    assert Jobs.fetch("job_2") == :error
    assert accept("job_3")
  end

  test "the journal is compacted and keeps everything that is kept in memory", c do
    start(c.dir, journal_bytes: 20_000)
    live = run(accept("job_live"), ~w(queued started))
    for n <- 1..200, do: run(accept("job_#{n}"), ~w(queued started progress completed))
    assert File.stat!(c.journal).size < 250_000
    kill(c.dir)
    assert Jobs.fetch("job_live") == {:ok, live}
    for n <- 1..200, do: assert(length(Jobs.events("job_#{n}", 0)) == 4)
  end

  test "of finished jobs the newest are kept, live ones always", c do
    start(c.dir, retention_jobs: 3)
    accept("job_live")
    for n <- 1..10, do: run(accept("job_#{n}"), ~w(queued started completed))
    kept = for record <- Jobs.list(fn _ -> true end), do: record.id
    assert length(kept) == 4
    assert "job_live" in kept
    assert :ets.info(Memory.Events, :size) == 3
  end

  test "a full disk refuses new jobs; events of running ones wait, untold, and come in their order",
       c do
    with_small_disk(c.dir, fn ->
      start_supervised!(Followers)
      start(c.dir)
      record = run(accept("job_1"), ~w(queued started))
      :ok = Followers.join("job_1")
      filler = Path.join(c.dir, "filler")
      fill(filler)
      assert {:error, %{code: "storage_full"}} = Jobs.accept(record("job_2", 100_000))
      # The last block of the journal may hold some more.
      record = progress_until_late(record)
      record = append_late(record, List.duplicate("progress", 100) ++ ["completed"])
      assert {:ok, %{state: "running"}} = Jobs.fetch("job_1")
      refute_received {:koma_events, "job_1", _untold}
      File.rm!(filler)
      Koma.CoreCase.eventually(fn -> Jobs.fetch("job_1") == {:ok, record} end)
      told = told_to_the_end()
      assert Enum.map(told, & &1.seq) == Enum.to_list((record.seq - length(told) + 1)..record.seq)
      assert Jobs.accept(record("job_3", 10)) == :ok
      kill(c.dir)
      assert {:ok, ^record} = Jobs.fetch("job_1")
      assert length(Jobs.events("job_1", 0)) == record.seq
      assert {:ok, _} = Jobs.fetch("job_3")
      stop_supervised!(Disk)
    end)
  end

  defp progress_until_late(record) do
    case append(record, "progress") do
      {record, :ok} -> progress_until_late(record)
      {record, :later} -> record
    end
  end

  defp append_late(record, types) do
    Enum.reduce(types, record, fn type, record ->
      assert {record, :later} = append(record, type)
      record
    end)
  end

  defp append(record, type) do
    event = Record.event(record, type, %{"attempt" => 1})
    record = Record.apply(record, event)
    [outcome] = Jobs.append([{record, event}])
    {record, outcome}
  end

  # What is stored may be read before it is told.
  defp told_to_the_end do
    assert_receive {:koma_events, "job_1", events}
    if List.last(events).type == "completed", do: events, else: events ++ told_to_the_end()
  end

  # A file system of one megabyte; where mounting is not allowed the test ends early.
  test "while the journal is read, no job is unknown, and who wants the unfinished waits for all",
       c do
    jobs = 10_000
    File.mkdir_p!(c.dir)

    File.write!(
      c.journal,
      for(n <- 1..jobs, do: Journal.encode({:accepted, record("job_#{n}", 10)}))
    )

    unfinished = Task.async(fn -> started() && Jobs.unfinished() end)
    last = Task.async(fn -> started() && first_answer("job_#{jobs}") end)
    start(c.dir)
    assert length(Task.await(unfinished)) == jobs
    assert {:ok, %Record{}} = Task.await(last)
  end

  # Its name is there before it reads.
  defp started, do: GenServer.whereis(Disk) != nil or started()

  defp first_answer(id) do
    Jobs.fetch(id)
  rescue
    ArgumentError -> first_answer(id)
  end

  defp with_small_disk(dir, fun) do
    File.mkdir_p!(dir)

    case System.cmd("mount", ~w(-t tmpfs -o size=1m koma #{dir}), stderr_to_stdout: true) do
      {_output, 0} ->
        try do
          fun.()
        after
          System.cmd("umount", ["-l", dir])
        end

      {output, _status} ->
        IO.puts("skipped, no mount: #{output}")
    end
  end

  defp start(dir, options \\ []) do
    defaults = [dir: dir, retention_jobs: 1_000, journal_bytes: 1_000_000]
    start_supervised!({Disk, Keyword.merge(defaults, options)}, restart: :temporary)
  end

  defp kill(dir) do
    pid = GenServer.whereis(Disk)
    ref = Process.monitor(pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^ref, :process, ^pid, :killed}
    start(dir)
  end

  defp accept(id) do
    record = record(id, 10)
    assert Jobs.accept(record) == :ok
    record
  end

  defp record(id, size) do
    params = %{"prompt" => String.duplicate("x", size)}
    %Record{id: id, task: "toy.run", model: "toy", created_at: 1, params: params}
  end
end
