defmodule Koma.Guards.FoldersTest do
  use ExUnit.Case, async: true

  @root Path.expand("../..", __DIR__)

  # Training and bench are tools of the makers, and what ships as checkpoints are no sources.
  @beside ~w(bench checkpoints testing training __pycache__)

  test "each folder says what it is, where to start reading, and what it leaves to others" do
    for side <- ["lib/koma", "python_nodes/koma"],
        folder <- File.ls!(Path.join(@root, side)),
        path = Path.join([@root, side, folder]),
        File.dir?(path) and folder not in @beside do
      readme = Path.join(path, "README.md")
      assert File.regular?(readme), "#{side}/#{folder} has no README.md"
      text = File.read!(readme)
      assert text =~ ~r/start reading/i and text =~ "leaves to others", readme

      for [_all, file] <- Regex.scan(~r/`([a-z_0-9]+\.(?:ex|py))`/, text) do
        # In the folder, in one below it, or the file of the folder's name beside it.
        there? = [path, "**", file] |> Path.join() |> Path.wildcard() |> Enum.any?()
        beside? = File.exists?(Path.join(Path.dirname(path), file))
        assert there? or beside?, "#{readme} names #{file}, which is not there"
      end
    end
  end
end
