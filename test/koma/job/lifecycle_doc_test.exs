defmodule Koma.Job.LifecycleDocTest do
  use ExUnit.Case, async: true

  alias Koma.Job.Lifecycle

  @root Path.expand("../../..", __DIR__)
  @doc_path Path.join(@root, "docs/lifecycle.md")
  @section ~r/(<!-- begin: transitions -->\n).*(<!-- end: transitions -->)/s

  test "the table in docs/lifecycle.md is the table of the code" do
    doc = File.read!(@doc_path)
    table = Lifecycle.to_markdown()
    generated = Regex.replace(@section, doc, fn _, from, to -> from <> table <> "\n" <> to end)
    if System.get_env("KOMA_WRITE_DOCS"), do: File.write!(@doc_path, generated)
    assert File.read!(@doc_path) == generated
    assert generated =~ table
  end

  test "every row of what dies names a test that exists" do
    [_, section] = @doc_path |> File.read!() |> String.split("## If something dies\n", parts: 2)
    [section, _rest] = String.split(section, "\n## ", parts: 2)

    rows =
      for "| " <> row <- String.split(section, "\n"),
          not String.starts_with?(row, "what dies"),
          do: row

    assert length(rows) >= 15

    for row <- rows do
      assert [_, path, name] = Regex.run(~r/`(tests?\/[^`]+)`: "([^"]+)"/, row), row
      assert File.read!(Path.join(@root, path)) =~ name, "#{path} has no test #{inspect(name)}"
    end
  end
end
