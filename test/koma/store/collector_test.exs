defmodule Koma.Store.CollectorTest do
  use Koma.CoreCase, async: false

  alias Koma.Store.{Artifacts, Collector, Grace, Jobs}

  @file_output %{"output_bytes" => 50_000}

  setup %{dir: dir} = context do
    start_core(dir, Map.get(context, :options, []))
  end

  test "uploads within their grace period stay, older ones that no job names go", %{dir: dir} do
    young = store("young")
    old = store("old") |> age()
    assert %{files: 1, bytes: 3} = Collector.collect()
    assert {:ok, _artifact} = Artifacts.fetch(young)
    assert {:error, %{code: "artifact_not_found"}} = Artifacts.fetch(old)
    assert length(files(dir)) == 2
  end

  test "storing the same bytes again, or asking for them, begins the grace period anew" do
    again = store("again") |> age()
    assert store("again") == again
    asked = store("asked") |> age()
    assert {:ok, _artifact} = Artifacts.renew(asked, nil)
    assert %{files: 0} = Collector.collect()
  end

  test "inputs and outputs of live and of retained jobs stay, however old" do
    input = store("input")
    running = submit!(%{"steps" => 1000, "step_ms" => 20}, %{"inputs" => %{"file" => input}})
    done = submit!(@file_output)["id"]
    await_end(done)
    output = output(done)
    Enum.each([input, output], &age/1)
    assert %{files: 0, jobs: 0} = Collector.collect()
    Koma.cancel(running["id"], %Caller{})
    assert %{files: 0, jobs: 0} = Collector.collect()
  end

  test "a finished job that is forgotten is gone after a restart too, and what it alone named is freed",
       %{dir: dir} do
    input = store("input")
    ids = for _ <- 1..2, do: submit!(@file_output, %{"inputs" => %{"file" => input}})["id"]
    for id <- ids, do: await_end(id)
    [forgotten, kept] = ids
    freed = output(forgotten)
    Enum.each([input, freed, output(kept)], &age/1)

    assert :ok = Koma.forget(forgotten, %Caller{})
    assert {:error, %{code: "not_found"}} = Koma.forget(forgotten, %Caller{})
    assert {:error, %{code: "not_found"}} = Koma.subscribe(forgotten, 0, %Caller{})
    assert %{files: 1, jobs: 0} = Collector.collect()
    assert {:error, %{code: "artifact_not_found"}} = Artifacts.fetch(freed)
    assert {:ok, _artifact} = Artifacts.fetch(input)

    stop_core()
    start_core(dir)
    assert {:error, %{code: "not_found"}} = Koma.job(forgotten, %Caller{})
    assert {:ok, %{"state" => "completed"}} = Koma.job(kept, %Caller{})
  end

  @tag options: [retention_ms: 0]
  test "when the retention of a job ends, it and its outputs are gone, after a restart too", %{
    dir: dir
  } do
    done = submit!(@file_output)["id"]
    running = submit!(%{"steps" => 1000, "step_ms" => 20})["id"]
    await_end(done)
    output(done) |> age()
    wait_a_millisecond()
    assert %{files: 1, jobs: 1} = Collector.collect()
    assert {:error, %{code: "not_found"}} = Koma.job(done, %Caller{})
    assert {:error, %{code: "not_found"}} = Koma.subscribe(done, 0, %Caller{})
    stop_core()
    start_core(dir)
    assert {:error, %{code: "not_found"}} = Koma.job(done, %Caller{})
    assert {:ok, _job} = Koma.job(running, %Caller{})
    assert files(dir) == []
    Koma.cancel(running, %Caller{})
  end

  @tag options: [retention_bytes: 120_000]
  test "while artifacts take too many bytes, the oldest finished jobs go" do
    ids = for seed <- 1..4, do: submit!(Map.put(@file_output, "seed", seed))["id"]
    for id <- ids, do: await_end(id)
    for id <- ids, do: id |> output() |> age()
    assert %{jobs: 2, files: 2} = Collector.collect()
    kept = for record <- Jobs.list(fn _ -> true end), do: record.id
    assert length(kept) == 2
    for id <- kept, do: assert({:ok, _artifact} = Artifacts.fetch(output(id)))
  end

  test "what was stored or asked for has the time of the BEAM's clock, by which the collector counts",
       %{
         dir: dir
       } do
    before = System.system_time(:second)
    asked = store("asked") |> age()
    {:ok, _artifact} = Artifacts.renew(asked, nil)
    written = Path.join(dir, "work/written")
    File.write!(written, "written")
    File.touch!(written, before - 2 * 24 * 3600)
    sha256 = :sha256 |> :crypto.hash("written") |> Base.encode16(case: :lower)
    {:ok, adopted} = Artifacts.adopt(written, "text/plain", sha256)

    times =
      for id <- [store("new"), asked, adopted.id],
          do: File.stat!(Artifacts.path(id), time: :posix).mtime

    assert Enum.all?(times, &(&1 in before..System.system_time(:second)))
  end

  test "the clock of the operating system may be set back or forward: nothing young is collected" do
    two_hours = 2 * 3600
    hour_ms = 3_600_000

    # The BEAM's clock goes on as it was; files that others wrote have the other one's time.
    for {beam, system} <- [{10_000, 10_000 - two_hours}, {10_000, 10_000 + two_hours}] do
      since = Grace.since(hour_ms, [beam, system])
      assert Enum.all?([beam, system], &(&1 >= since))
    end

    assert Grace.since(hour_ms, [10_000, 10_000]) == 10_000 - 3600
  end

  test "a file from the future, as the clock was set back and the server started again, stays for a grace period from now" do
    id = store("from the future")

    for ahead <- [2 * 3600, 10 * 365 * 24 * 3600] do
      File.touch!(Artifacts.path(id), System.system_time(:second) + ahead)
      assert %{files: 0} = Collector.collect()
      assert File.stat!(Artifacts.path(id), time: :posix).mtime <= System.system_time(:second)
    end

    age(id)
    assert %{files: 1} = Collector.collect()
  end

  @tag options: [collect_ms: 50, grace_ms: 0]
  test "it runs by itself" do
    id = store("old") |> age()
    eventually(fn -> match?({:error, _}, Artifacts.fetch(id)) end)
  end

  test "what a killed server left is removed: temporary files at start, lonely types later", %{
    dir: dir
  } do
    id = store("bytes") |> age()
    File.rm!(Artifacts.path(id))
    stop_core()
    File.write!(Path.join(dir, "tmp/7"), "half an upload")
    File.mkdir_p!(Path.join(dir, "work/job_1-1"))
    File.write!(Path.join(dir, "work/job_1-1/frame"), "half an output")
    start_core(dir)
    assert File.ls!(Path.join(dir, "tmp")) == []
    assert File.ls!(Path.join(dir, "work")) == []
    Collector.collect()
    assert files(dir) == []
  end

  test "uploads, collections and jobs at once: an upload that was answered is never lost" do
    collecting = Task.async(fn -> for _ <- 1..200, do: Collector.collect() end)

    for n <- 1..200 do
      id = store("raced #{rem(n, 5)}")
      assert {:ok, _artifact} = Artifacts.fetch(id)
      if rem(n, 3) == 0, do: age(id)
    end

    Task.await(collecting, 30_000)
  end

  test "a file that is being read outlives its collection" do
    id = store(String.duplicate("x", 1_000_000)) |> age()
    {:ok, file} = :file.open(Artifacts.path(id), [:read, :raw, :binary])
    assert {:ok, _} = :file.read(file, 10)
    assert %{files: 1} = Collector.collect()
    assert {:ok, rest} = :file.read(file, 2_000_000)
    assert byte_size(rest) == 999_990
    :file.close(file)
  end

  defp store(bytes) do
    {:ok, writer} = Artifacts.open("text/plain")
    {:ok, writer} = Artifacts.write(writer, bytes)
    {:ok, artifact, _new} = Artifacts.commit(writer, nil)
    artifact.id
  end

  # As if it had been stored two days ago.
  defp age(id) do
    then = System.system_time(:second) - 2 * 24 * 3600
    noted = Path.wildcard(Artifacts.path(id) <> ".type")
    for path <- [Artifacts.path(id) | noted], do: File.touch!(path, then)
    id
  end

  defp output(id) do
    {:ok, %{"outputs" => [%{"artifact" => artifact}]}} = Koma.job(id, %Caller{})
    artifact
  end

  defp wait_a_millisecond do
    receive do
    after
      2 -> :ok
    end
  end

  defp files(dir) do
    for path <- Path.wildcard(Path.join(dir, "artifacts/**")), File.regular?(path), do: path
  end
end
