defmodule Koma.Wire.MsgpackTest do
  use ExUnit.Case, async: true

  alias Koma.Wire.Msgpack

  # What msgpack 1.x for Python writes for these values (use_bin_type=True).
  @python [
    {nil, "C0"},
    {true, "C3"},
    {0, "00"},
    {127, "7F"},
    {128, "CC80"},
    {65_535, "CDFFFF"},
    {4_294_967_296, "CF0000000100000000"},
    {-32, "E0"},
    {-33, "D0DF"},
    {-32_769, "D2FFFF7FFF"},
    {1.5, "CB3FF8000000000000"},
    {"é", "A2C3A9"},
    {{:bin, <<0, 255>>}, "C40200FF"},
    {[1, [2]], "92019102"},
    {%{"a" => nil}, "81A161C0"}
  ]

  for {{value, hex}, index} <- Enum.with_index(@python) do
    test "#{index}: #{hex} both ways" do
      value = unquote(Macro.escape(value))
      bytes = Base.decode16!(unquote(hex))
      assert value |> Msgpack.encode() |> IO.iodata_to_binary() == bytes
      assert Msgpack.decode(bytes) == {:ok, value}
    end
  end

  test "floats of 32 bits are read" do
    assert Msgpack.decode(<<0xCA, 1.5::float-32>>) == {:ok, 1.5}
  end

  for {name, bytes} <- [
        {"NaN", <<0xCB, 0x7FF8::16, 0::48>>},
        {"infinity", <<0xCA, 0x7F800000::32>>},
        {"an extension", <<0xD4, 1, 2>>},
        {"the unused byte", <<0xC1>>},
        {"nothing", <<>>},
        {"a text cut short", <<0xA5, "abc">>},
        {"an integer cut short", <<0xCE, 1>>},
        {"a float cut short", <<0xCB, 1>>},
        {"a list longer than the input", <<0xDD, 0xFFFFFFFF::32, 1>>},
        {"a map longer than the input", <<0xDF, 0xFFFFFFFF::32, 1>>},
        {"text that is not UTF-8", <<0xA2, 0xC3, 0x28>>},
        {"a key that is a number", <<0x81, 1, 1>>},
        {"a key twice", <<0x82, 0xA1, ?a, 1, 0xA1, ?a, 2>>},
        {"bytes behind the value", <<1, 2>>}
      ] do
    test "#{name} is refused with a reason" do
      assert {:error, reason} = Msgpack.decode(unquote(bytes))
      assert is_binary(reason)
    end
  end

  test "both sides of the depth limit" do
    nested = fn depth -> :binary.copy(<<0x91>>, depth) <> <<1>> end
    assert {:ok, _value} = Msgpack.decode(nested.(Msgpack.max_depth()))
    assert {:error, "nested" <> _} = Msgpack.decode(nested.(Msgpack.max_depth() + 1))
  end

  test "both sides of the text limit" do
    text = fn size -> <<0xDB, size::32, :binary.copy("x", size)::binary>> end
    assert {:ok, _value} = Msgpack.decode(text.(Msgpack.max_string()))
    assert {:error, "a text of" <> _} = Msgpack.decode(text.(Msgpack.max_string() + 1))
  end

  test "what cannot travel raises where it is written" do
    for value <- [:atom, %{a: 1}, <<0xFF>>, Bitwise.bsl(1, 64), {:bin, 1}, %{1 => 2}] do
      assert_raise ArgumentError, fn -> Msgpack.encode(value) end
    end
  end
end
