defmodule Koma.OptionsTest do
  use ExUnit.Case, async: true

  alias Koma.Options

  @toy %{name: "toy", family: "toy", checkpoint: "toy"}

  test "entries are counted out into one model node each" do
    assert {:ok, %{models: specs}} = Options.new(models: [Map.put(@toy, :count, 2)])
    assert Enum.map(specs, & &1.name) == ["toy-1", "toy-2"]
  end

  for {options, words} <- [
        {[prot: 1], "did you mean port"},
        {[port: "4000"], "port"},
        {[port: 70_000], "0..65535"},
        {[queue_limit: 0], "queue_limit"},
        {[data_dir: nil], "data_dir"},
        {[node_command: "python"], "node_command"},
        {[models: [%{name: "a"}]], "misses"},
        {[models: [%{name: "a", family: "b", checkpoint: "c", slot: 1}]], "unknown keys [:slot]"},
        {[models: [%{name: "a", family: "b", checkpoint: "c", slots: 0}]],
         "slots is not positive"},
        {[models: [%{name: "a", family: "b", checkpoint: "c", threads: 0}]],
         "threads is not positive"},
        {[models: [%{name: "a", family: "b", checkpoint: "c", hang_timeout_ms: 1.5}]],
         "hang_timeout_ms is not positive"},
        {[models: [%{name: "a", family: "b", checkpoint: "c", options: %{x: 1}}]], "string keys"}
      ] do
    test "#{inspect(options)} is refused, naming #{words}" do
      assert {:error, message} = Options.new(unquote(Macro.escape(options)))
      assert message =~ unquote(words)
    end
  end

  test "folders become absolute, because model nodes get them" do
    assert Options.new!(data_dir: "x/../y").data_dir == Path.expand("y")
  end

  test "two checkpoints of one family, or one name twice, are refused" do
    other = %{@toy | checkpoint: "other"}
    assert {:error, message} = Options.new(models: [@toy, %{other | name: "toy2"}])
    assert message =~ "several checkpoints"
    assert {:error, message} = Options.new(models: [@toy, @toy])
    assert message =~ "two model nodes are called toy-1"
  end

  test "every option has a default, and the defaults are allowed" do
    for {key, {_kind, default, meaning}} <- Options.Table.all() do
      assert {:ok, options} = Options.new([{key, default}])
      assert Map.fetch!(options, key) == default or key in [:data_dir, :python_path]
      assert meaning != ""
    end
  end
end
