defmodule Koma.Store.DiskTest do
  use ExUnit.Case, async: false

  import Koma.StoreSteps

  alias Koma.Job.Record
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

  test "a full disk refuses new jobs, loses no event of running ones and corrupts nothing", c do
    with_small_disk(c.dir, fn ->
      start(c.dir)
      record = run(accept("job_1"), ~w(queued started))
      filler = Path.join(c.dir, "filler")
      fill(filler)
      assert {:error, %{code: "storage_full"}} = Jobs.accept(record("job_2", 100_000))
      record = run(record, List.duplicate("progress", 200))
      File.rm!(filler)
      record = run(record, ~w(completed))
      assert Jobs.accept(record("job_3", 10)) == :ok
      kill(c.dir)
      assert {:ok, ^record} = Jobs.fetch("job_1")
      assert length(Jobs.events("job_1", 0)) == 203
      assert {:ok, _} = Jobs.fetch("job_3")
      stop_supervised!(Disk)
    end)
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
