defmodule Koma.Job.OutputsTest do
  use Koma.CoreCase, async: false

  alias Koma.Job.Outputs
  alias Koma.Store

  @text "what only the server may read"

  setup %{dir: dir} do
    start_core(dir, models: [])
    work = Store.work_dir("job_1", 1)
    File.mkdir_p!(work)
    foreign = Path.join(dir, "foreign")
    File.write!(foreign, @text)
    {:ok, work: work, foreign: foreign}
  end

  test "a file in the folder of the attempt becomes an artifact", c do
    path = Path.join(c.work, "below/result")
    File.mkdir_p!(Path.dirname(path))
    File.write!(path, @text)
    assert {:ok, [%{"artifact" => id}]} = Outputs.adopt([output(path)], c.work)
    assert File.read!(Store.Artifacts.path(id)) == @text
  end

  test "an output that is a link to a file of somebody else's is refused, and that file stays",
       c do
    symbolic = Path.join(c.work, "symbolic")
    File.ln_s!(c.foreign, symbolic)
    hard = Path.join(c.work, "hard")
    File.ln!(c.foreign, hard)
    behind = Path.join(c.work, "folder")
    File.ln_s!(Path.dirname(c.foreign), behind)
    system = Path.join(c.work, "system")
    File.ln_s!("/etc/passwd", system)

    for path <- [
          symbolic,
          hard,
          system,
          Path.join(behind, "foreign"),
          Path.join(c.work, "../../foreign")
        ] do
      for move <- [&Outputs.adopt/2, &Outputs.store/2] do
        assert {:error, %{code: "model_failed", message: message}} = move.([output(path)], c.work)
        assert message =~ inspect(path)
      end
    end

    assert File.read!(c.foreign) == @text
    assert Store.Artifacts.list() == []
  end

  test "an output whose folder is itself a link is refused", c do
    linked = Store.work_dir("job_1", 2)
    File.ln_s!(Path.dirname(c.foreign), linked)
    path = Path.join(linked, "foreign")
    assert {:error, %{code: "model_failed"}} = Outputs.adopt([output(path)], linked)
  end

  test "what is no file at all is refused", c do
    folder = Path.join(c.work, "folder")
    File.mkdir_p!(folder)
    assert {:error, %{message: message}} = Outputs.adopt([output(folder)], c.work)
    assert message =~ "is no file but a directory"
    absent = Path.join(c.work, "absent")
    assert {:error, %{message: message}} = Outputs.adopt([output(absent)], c.work)
    assert message =~ "is not there"
  end

  defp output(path) do
    digest = :sha256 |> :crypto.hash(@text) |> Base.encode16(case: :lower)
    %{name: "result", media_type: "text/plain", path: path, text: nil, meta: %{}, sha256: digest}
  end
end
