defmodule Koma.Options.EnvironmentTest do
  use ExUnit.Case, async: true

  alias Koma.Options
  alias Koma.Options.{Environment, Page, Table}

  doctest Koma.Options.Table

  @root Path.expand("../../..", __DIR__)
  @page Path.join(@root, "docs/configuration.md")

  # One value for each kind of option, and what becomes of it.
  defp example({_integer, _low, _high}), do: {"1024", 1024}
  defp example(:boolean), do: {"on", true}
  defp example(:strings), do: {"a, b", ["a", "b"]}
  defp example(:path), do: {"/tmp/x", "/tmp/x"}
  defp example(:command), do: {"python3 -m 'a b'", ["python3", "-m", "a b"]}
  defp example(:redis), do: {"redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"}
  defp example(:roles), do: {"gateway", [:gateway]}
  defp example(:ports), do: {"9000-9001", {9000, 9001}}
  defp example(:marks), do: {"signed", [:signed]}
  defp example(_string), do: {"text", "text"}

  test "every option can be set by its variable" do
    for {key, {kind, _default, _sentence}} <- Table.all(), key != :models do
      {text, value} = example(kind)
      assert {:ok, options} = Environment.read(%{Table.variable(key) => text}, @root)
      assert {key, Keyword.fetch!(options, key)} == {key, value}
      assert {:ok, %Options{}} = Options.new(options)
    end
  end

  test "without variables the defaults hold, and the files of the checkout are found" do
    assert {:ok, options} = Environment.read(%{}, @root)
    assert {:ok, %Options{port: 4000} = checked} = Options.new(options)
    assert checked.data_dir == Path.join(@root, "data")
    assert Enum.map(checked.models, & &1.family) == ~w(smolvlm2 amused ltx_video)
  end

  for {variable, text, words} <- [
        {"KOMA_PORT", "abc", "a whole number from 0 to 65535"},
        {"KOMA_PORT", "70000", "a whole number from 0 to 65535"},
        {"KOMA_QUEUE_LIMIT", "0", "a whole number of at least 1"},
        {"KOMA_OPEN", "perhaps", "`on` or `off`"},
        {"KOMA_ROLES", "driver", "`gateway`, `worker`"},
        {"KOMA_MARKS", "loud", "`invisible`, `signed`"},
        {"KOMA_DIST_PORTS", "9-x", "a range"},
        {"KOMA_DIST_PORTS", "2-1", "a range"},
        {"KOMA_NODE_COMMAND", "'a", "a command"},
        {"KOMA_MODELS", "toy:0", "families with an optional count"},
        {"KOMA_MODELS", "toy:2:3", "families with an optional count"}
      ] do
    test "#{variable}=#{text} is refused in a sentence with the value and what is allowed" do
      given = %{unquote(variable) => unquote(text)}
      assert {:error, sentence} = Environment.read(given, @root)
      assert sentence =~ unquote(variable) and sentence =~ unquote(text)
      assert sentence =~ unquote(words)
    end
  end

  test "the password in the URL of a Redis is not repeated" do
    given = %{"KOMA_REDIS_URL" => "http://user:secret@host"}
    assert {:error, sentence} = Environment.read(given, @root)
    assert sentence =~ "KOMA_REDIS_URL" and not (sentence =~ "secret")
  end

  @tag :tmp_dir
  test "a file with model nodes that is missing, broken or wrong is told with its name", %{
    tmp_dir: dir
  } do
    broken = Path.join(dir, "broken.exs")
    File.write!(broken, "[%{name: ")
    wrong = Path.join(dir, "wrong.exs")
    File.write!(wrong, ~s([%{name: "a", family: "toy"}]))

    atoms = Path.join(dir, "atoms.exs")
    File.write!(atoms, "[:toy]")
    thrown = Path.join(dir, "thrown.exs")
    File.write!(thrown, "throw(:x)")

    for {file, words} <- [
          {"/absent.exs", "cannot be read"},
          {broken, "as Elixir"},
          {wrong, "misses"},
          {atoms, "a list of model nodes"},
          {thrown, "a list of model nodes"}
        ] do
      assert {:error, sentence} = Environment.read(%{"KOMA_MODELS_FILE" => file}, @root)
      assert sentence =~ file and sentence =~ words
    end
  end

  test "a peer that only works has no store of its own, one that only serves no model nodes" do
    redis = %{"KOMA_REDIS_URL" => "redis://127.0.0.1:1/0"}
    assert {:ok, options} = Environment.read(Map.put(redis, "KOMA_ROLES", "worker"), @root)
    refute options[:redis]
    assert {:ok, options} = Environment.read(Map.put(redis, "KOMA_ROLES", "gateway"), @root)
    assert options[:redis] && options[:models] == []
  end

  test "a variable that nothing reads is named with the nearest one" do
    given = %{"KOMA_PROT" => "1", "KOMA_PORT" => "1", "KOMA_SERVER" => "x", "PATH" => "/"}

    assert ["KOMA_PROT is set, and nothing reads it; did you mean KOMA_PORT?"] =
             Environment.misspelt(given)
  end

  test "docs/configuration.md lists exactly the options of the table" do
    section = ~r/(<!-- begin: options -->\n).*(<!-- end: options -->)/s
    page = File.read!(@page)
    written = Regex.replace(section, page, fn _, from, to -> from <> Page.to_markdown() <> to end)
    if System.get_env("KOMA_WRITE_DOCS"), do: File.write!(@page, written)
    assert File.read!(@page) == written
  end
end
