defmodule Koma.Store.CheckTest do
  use Koma.CoreCase, async: false

  alias Koma.Pipeline.{Files, Graph, Record, Stage}
  alias Koma.Store.{Artifacts, Check, Jobs, Lock}

  setup %{dir: dir} do
    start_core(dir)

    ids =
      for seed <- 1..5, do: submit!(%{"steps" => 1, "seed" => seed, "output_bytes" => 100})["id"]

    for id <- ids, do: await_end(id)
    :ok = Files.prepare()
    pipelines = for _ <- 1..3, do: pipeline()
    artifacts = for {id, _bytes} <- Artifacts.list(), do: id
    stop_core()

    {:ok,
     ids: ids, pipelines: pipelines, artifacts: artifacts, journal: Path.join(dir, "jobs/journal")}
  end

  test "a sound folder is told to be sound, and not touched", %{dir: dir} do
    before = bytes(dir)

    for repair? <- [false, true] do
      assert {:ok, report} = Check.run(dir, repair?)
      assert %{"sound" => true, "repaired" => false, "jobs" => %{"completed" => 5}} = report

      assert %{"damaged_places" => [], "damaged_pipelines" => [], "damaged_artifacts" => []} =
               report
    end

    assert Map.delete(bytes(dir), "lock") == Map.delete(before, "lock")
  end

  test "every kind of damage is named, nothing is touched without being asked, and repaired when asked",
       c do
    [first | _others] = c.ids
    [torn, damaged, unreadable] = c.pipelines
    [wrong | _right] = c.artifacts
    # The last byte of the first acceptance.
    <<size::32, _rest::binary>> = File.read!(c.journal)
    change(c.journal, size + 7)
    File.write!(pipeline_path(c, torn), <<0::64>>, [:append])
    change(pipeline_path(c, damaged), File.stat!(pipeline_path(c, damaged)).size - 3)
    File.write!(pipeline_path(c, unreadable), <<0::64>>)
    change(Artifacts.path(wrong), 50)
    before = bytes(c.dir)

    assert {:ok, report} = Check.run(c.dir, false)
    assert Map.delete(bytes(c.dir), "lock") == Map.delete(before, "lock")
    assert %{"sound" => false, "repaired" => false, "lost_jobs" => [^first]} = report
    assert report["damaged_places"] == [%{"offset" => 0, "bytes" => size + 8}]
    assert report["damaged_artifacts"] == [wrong]
    problems = Map.new(report["damaged_pipelines"], &{&1["id"], &1["problem"]})
    assert problems == %{torn => "torn", damaged => "damaged", unreadable => "unreadable"}

    assert {:ok, %{"sound" => false, "repaired" => true}} = Check.run(c.dir, true)

    assert {:ok, %{"sound" => true, "jobs" => %{"completed" => 4}}} = Check.run(c.dir, false)
    assert [_aside] = Path.wildcard(c.journal <> ".damaged-*")
    assert [_aside] = Path.wildcard(Artifacts.path(wrong) <> ".damaged-*")

    start_core(c.dir)
    assert Jobs.fetch(first) == :error
    assert length(Jobs.list(fn _record -> true end)) == 4
    assert Enum.sort(Files.ids()) == Enum.sort([torn, damaged])
  end

  test "a folder that a server has is left alone, and so is one that is not there", %{dir: dir} do
    start_supervised!({Lock, Koma.Options.new!(data_dir: dir)})
    assert {:error, sentence} = Check.run(dir, true)
    assert sentence =~ "is in use by another Koma server"
    assert {:error, sentence} = Check.run(Path.join(dir, "absent"), true)
    assert sentence =~ "no such file or directory"
    refute File.exists?(Path.join(dir, "absent"))
  end

  defp pipeline do
    stage = %Stage{name: "a", task: "toy.run"}
    record = Record.new(Files.new_id(), nil, %Graph{stages: [stage], inputs: %{}})
    :ok = Files.accept(record)
    file = Files.open(record.id)
    :ok = Files.append(file, Record.event(record, "completed", %{"outputs" => %{}}))
    :ok = :file.close(file)
    record.id
  end

  defp pipeline_path(c, id), do: Path.join([c.dir, "pipelines", id])

  defp change(path, at) do
    <<head::binary-size(at), byte, tail::binary>> = File.read!(path)
    File.write!(path, <<head::binary, Bitwise.bxor(byte, 4), tail::binary>>)
  end

  defp bytes(dir) do
    for path <- Path.wildcard(Path.join(dir, "**")), File.regular?(path), into: %{} do
      {Path.relative_to(path, dir), File.read!(path)}
    end
  end
end
