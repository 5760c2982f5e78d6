defmodule Koma.Store.ModesTest do
  use Koma.EdgeCase, async: false

  alias Koma.Store.Artifacts

  test "whatever Koma makes in its data folder is for its owner only, files and folders", %{
    dir: dir
  } do
    data = Path.join(dir, "data")
    start_supervised!({Koma.Store.Lock, Koma.Options.new!(data_dir: data)})
    start_server(data)
    {:ok, text} = Artifacts.open("text/plain", "a-key")
    {:ok, text} = Artifacts.write(text, "neither its bytes tell the type nor whose it is")
    {:ok, _artifact, :created} = Artifacts.commit(text, nil)
    {:ok, half} = Artifacts.open("video/mp4")
    assert mode(half.path) == 0o600
    {:ok, pipeline} = Koma.Pipeline.submit(pipeline(), %Caller{})
    await_pipeline(pipeline["id"])
    :ok = Koma.Queue.pause("toy", true)
    :ok = Koma.Access.Revocations.revoke("a-session", System.system_time(:second) + 60)

    # What model nodes write lies in `work`, which nobody else can enter, and may just be deleted.
    made = Path.wildcard(Path.join(data, "**"), match_dot: true)
    made = Enum.reject(made, &String.starts_with?(&1, Path.join(data, "work/")))
    names = Enum.map(made, &Path.relative_to(&1, data))
    for name <- ~w(lock secret jobs/journal paused/toy access/revoked), do: assert(name in names)
    assert Enum.count(names, &(Path.dirname(&1) == "pipelines")) == 1
    for kind <- ~w(.type .keys), do: assert(Enum.any?(names, &String.ends_with?(&1, kind)))
    # The output of a model node, too, which wrote it with modes of its own.
    assert length(Artifacts.list()) == 2

    for path <- [data | made] do
      expected = if File.dir?(path), do: 0o700, else: 0o600
      assert {path, mode(path)} == {path, expected}
    end

    :ok = Artifacts.abort(half)
  end

  defp pipeline do
    params = %{"steps" => 1, "output_bytes" => 1_000}
    %{"stages" => [%{"name" => "a", "task" => "toy.run", "params" => params}]}
  end

  defp mode(path), do: Bitwise.band(File.stat!(path).mode, 0o777)
end
