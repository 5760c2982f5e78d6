defmodule Koma.Wire.MessagesTest do
  use ExUnit.Case, async: true

  alias Koma.Wire.{Messages, Msgpack}

  @golden Path.expand("../../golden", __DIR__)
  @table Path.expand("../../../docs/wire.md", __DIR__)

  test "every message has a struct, a golden pair and a row in docs/wire.md" do
    rows = Regex.scan(~r/^\| `(\w+)` \| /m, File.read!(@table), capture: :all_but_first)
    structs = for {type, _module, _direction} <- Messages.all(), do: type
    assert Enum.sort(structs) == golden(@golden, ".msgpack")
    assert golden(@golden, ".json") == golden(@golden, ".msgpack")
    assert structs -- List.flatten(rows) == []
  end

  for {type, module, direction} <- Messages.all() do
    test "#{type}: the golden bytes are read, and written again as the same values" do
      bytes = File.read!(Path.join(@golden, unquote(type) <> ".msgpack"))
      assert {:ok, message} = decode(unquote(direction), bytes)
      assert message.__struct__ == unquote(module)
      assert plain(message) == json(unquote(type))
      assert {:error, "unknown type " <> _} = decode(other(unquote(direction)), bytes)
    end

    test "#{type}: a message without one of its fields, or with a wrong one, is refused" do
      {:ok, whole} = Msgpack.decode(File.read!(Path.join(@golden, unquote(type) <> ".msgpack")))

      for {key, value} <- whole,
          key != "type",
          value != nil,
          {key, unquote(type)} not in nullable() do
        assert {:error, reason} = decode(unquote(direction), pack(Map.delete(whole, key)))
        assert reason == "field #{key} is missing"

        assert {:error, reason} =
                 decode(
                   unquote(direction),
                   pack(%{whole | key => {:bin, <<0>>} |> unless_bytes(value)})
                 )

        assert reason =~ "field #{key}"
      end
    end
  end

  for file <- Path.wildcard(Path.expand("../../golden/variants/*.msgpack", __DIR__)) do
    test "variant #{Path.basename(file)} is read" do
      bytes = File.read!(unquote(file))
      assert {:ok, message} = either(bytes)

      expected =
        unquote(file)
        |> String.replace(".msgpack", ".json")
        |> File.read!()
        |> :jiffy.decode([:return_maps, :use_nil])

      assert plain(message) == expected
    end
  end

  for file <- Path.wildcard(Path.expand("../../golden/invalid/*.msgpack", __DIR__)) do
    test "invalid #{Path.basename(file)} is refused" do
      assert {:error, reason} = either(File.read!(unquote(file)))
      assert is_binary(reason)
    end
  end

  test "more outputs than the limit are refused, as many as the limit are read" do
    {:ok, done} = Msgpack.decode(File.read!(Path.join(@golden, "done.msgpack")))
    output = hd(done["outputs"])
    limit = Messages.max_outputs()

    assert {:ok, _done} =
             decode(:from_node, pack(%{done | "outputs" => List.duplicate(output, limit)}))

    assert {:error, reason} =
             decode(:from_node, pack(%{done | "outputs" => List.duplicate(output, limit + 1)}))

    assert reason =~ "#{limit + 1} outputs are more than #{limit}"
  end

  # Fields of the golden messages whose type allows nil: they may be absent, and `any` takes all.
  defp nullable do
    for type <- ~w(ready failed),
        key <- ~w(id family checkpoint checkpoint_digest notice field value bound) do
      {key, type}
    end -- [{"id", "failed"}]
  end

  defp unless_bytes(_wrong, {:bin, _}), do: "text"
  defp unless_bytes(wrong, _value), do: wrong

  defp either(bytes) do
    with {:error, "unknown type" <> _} <- decode(:from_node, bytes),
         do: decode(:from_gateway, bytes)
  end

  defp decode(:from_node, bytes), do: Messages.decode_from_node(bytes)
  defp decode(:from_gateway, bytes), do: Messages.decode_from_gateway(bytes)

  defp other(:from_node), do: :from_gateway
  defp other(:from_gateway), do: :from_node

  defp pack(map), do: map |> Msgpack.encode() |> IO.iodata_to_binary()

  # The message as its own bytes say, in the form of the golden JSON.
  defp plain(message) do
    {:ok, map} = message |> Messages.encode() |> IO.iodata_to_binary() |> Msgpack.decode()
    unbin(map)
  end

  defp unbin({:bin, bytes}), do: %{"$bin" => Base.encode64(bytes)}
  defp unbin(map) when is_map(map), do: Map.new(map, fn {key, value} -> {key, unbin(value)} end)
  defp unbin(list) when is_list(list), do: Enum.map(list, &unbin/1)
  defp unbin(value), do: value

  defp json(type) do
    @golden
    |> Path.join(type <> ".json")
    |> File.read!()
    |> :jiffy.decode([:return_maps, :use_nil])
  end

  defp golden(dir, extension) do
    Enum.sort(for name <- File.ls!(dir), Path.extname(name) == extension, do: Path.rootname(name))
  end
end
