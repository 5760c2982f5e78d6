defmodule Koma.Wire.FramesTest do
  use ExUnit.Case, async: true

  alias Koma.Wire.Frames

  test "the limit itself passes, one byte more does not, in both directions" do
    limit = Frames.max_frame()
    assert {:ok, packed} = Frames.pack(:binary.copy("x", limit))
    assert {:ok, [frame], rest} = Frames.push(Frames.new(), IO.iodata_to_binary(packed))
    assert byte_size(frame) == limit
    refute Frames.partial?(rest)
    assert Frames.pack(:binary.copy("x", limit + 1)) == {:error, limit + 1}
    assert {:error, reason} = Frames.push(Frames.new(), <<limit + 1::32>>)
    assert reason == "a frame of #{limit + 1} bytes is longer than #{limit}"
  end

  test "a senseless length is an error as soon as its last byte is there" do
    {:ok, [], state} = Frames.push(Frames.new(), <<0xFF, 0xFF, 0xFF>>)
    assert {:error, _reason} = Frames.push(state, <<0xFF>>)
  end

  test "an empty frame is a frame" do
    assert {:ok, ["", ""], _state} = Frames.push(Frames.new(), <<0::32, 0::32>>)
  end

  test "one and a half frames give one, and the rest later" do
    {:ok, ["ab"], state} = Frames.push(Frames.new(), <<2::32, "ab", 3::32, "c">>)
    assert Frames.partial?(state)
    assert {:ok, ["cde"], state} = Frames.push(state, "de")
    refute Frames.partial?(state)
  end
end
