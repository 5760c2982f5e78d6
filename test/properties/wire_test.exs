defmodule Koma.Properties.WireTest do
  use ExUnit.Case, async: true

  import Koma.Properties
  alias Koma.Wire.{Frames, Msgpack}

  test "every value comes back from MessagePack as it was" do
    holds(value(), fn value ->
      value |> Msgpack.encode() |> IO.iodata_to_binary() |> Msgpack.decode() == {:ok, value}
    end)
  end

  test "arbitrary bytes are a value or a reason, never a crash" do
    holds(
      bytes(),
      fn bytes ->
        case Msgpack.decode(bytes) do
          {:ok, _value} -> true
          {:error, reason} -> is_binary(reason)
        end
      end,
      2_000
    )
  end

  test "a value with a byte cut off is refused" do
    holds(value(), fn value ->
      bytes = value |> Msgpack.encode() |> IO.iodata_to_binary()
      match?({:error, _}, Msgpack.decode(binary_part(bytes, 0, byte_size(bytes) - 1)))
    end)
  end

  test "frames come out the same however the stream is cut" do
    holds({list(bytes()), list(integer(1, 9))}, fn {frames, cuts} ->
      stream = IO.iodata_to_binary(for frame <- frames, do: elem(Frames.pack(frame), 1))
      {out, state} = feed(stream, Stream.cycle(cuts ++ [3]), Frames.new(), [])
      out == frames and not Frames.partial?(state)
    end)
  end

  defp feed(<<>>, _cuts, state, out), do: {out, state}

  defp feed(stream, cuts, state, out) do
    size = min(Enum.at(cuts, 0), byte_size(stream))
    <<part::binary-size(size), rest::binary>> = stream
    {:ok, frames, state} = Frames.push(state, part)
    feed(rest, Stream.drop(cuts, 1), state, out ++ frames)
  end

  defp value, do: value(3)
  defp value(0), do: scalar()

  # Lists of at most a few elements: nesting multiplies their lengths.
  defp value(depth) do
    elements = small(list(value(depth - 1)))
    entries = small(list({text(), value(depth - 1)}))
    one_of([scalar(), elements, map(entries, &Map.new/1)])
  end

  defp scalar do
    bound = Bitwise.bsl(1, 63)

    one_of([
      nil,
      true,
      false,
      integer(-bound, 2 * bound - 1),
      integer(-200, 300),
      :proper_types.float(),
      text(),
      map(bytes(), &{:bin, &1})
    ])
  end
end
