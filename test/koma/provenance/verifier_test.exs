defmodule Koma.Provenance.VerifierTest do
  # One detector of a peer, under its own name.
  use ExUnit.Case, async: false

  alias Koma.Options
  alias Koma.Provenance.Verifier

  # The smallest picture: a PNG of one white pixel.
  @png Base.decode64!(
         "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAG7buVgAAAABJRU5ErkJggg=="
       )

  setup do
    dir = Koma.TestFolder.new("verifier")
    path = Path.join(dir, "a.png")
    File.write!(path, @png)
    start_supervised!({Verifier, Options.new!(python: ".venv/bin/python", data_dir: dir)})
    %{path: path, dir: dir}
  end

  test "a file is examined in a process that starts with the first question", %{path: path} do
    assert Verifier.os_pid() == nil

    assert {:ok, %{"c2pa" => %{"present" => false}, "watermark" => watermark}} =
             Verifier.examine(path, "image/png")

    assert %{"found" => false, "note" => "the picture is too small for a mark"} = watermark
    assert is_integer(Verifier.os_pid())
  end

  test "when the detector dies, the next question is answered by another", %{path: path} do
    assert {:ok, _report} = Verifier.examine(path, "image/png")
    first = Verifier.os_pid()
    {_output, 0} = System.cmd("kill", ["-KILL", "#{first}"])
    assert Enum.any?(1..3, fn _again -> match?({:ok, _}, Verifier.examine(path, "image/png")) end)
    assert Verifier.os_pid() != first
  end

  test "a file that is gone is an error of that file alone", %{path: path, dir: dir} do
    absent = Path.join(dir, "absent")
    assert {:error, %Koma.Error{code: "internal"}} = Verifier.examine(absent, "image/png")
    assert {:ok, _report} = Verifier.examine(path, "image/png")
  end
end
