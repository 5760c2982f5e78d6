defmodule Koma.Wire.Frames do
  @moduledoc """
  Frames of a 4-byte big-endian length and that many bytes, cut out of a stream as it comes.

  The gateway cuts frames itself rather than with the port's `{:packet, 4}`, because that would
  wait for (and make room for) up to 4 GiB when a broken sender writes a senseless length; here a
  length over the limit is an error as soon as its four bytes are there.
  """

  # Previews and parameters only; media travel as paths.
  @max_frame 8 * 1024 * 1024

  defstruct need: 4, have: 0, parts: []

  @opaque t :: %__MODULE__{need: pos_integer, have: non_neg_integer, parts: [binary]}

  @doc "The largest length of a frame, without its four bytes of length."
  @spec max_frame() :: pos_integer
  def max_frame, do: @max_frame

  @doc "The state before the first byte."
  @spec new() :: t
  def new, do: %__MODULE__{}

  @doc "Puts the length before a payload. `{:error, size}` when it is over the limit."
  @spec pack(iodata) :: {:ok, iodata} | {:error, non_neg_integer}
  def pack(payload) do
    case IO.iodata_length(payload) do
      size when size > @max_frame -> {:error, size}
      size -> {:ok, [<<size::32>> | payload]}
    end
  end

  @doc "Takes more bytes; returns the frames that became whole, in order."
  @spec push(t, binary) :: {:ok, [binary], t} | {:error, String.t()}
  def push(%__MODULE__{} = state, bytes) do
    parts = [bytes | state.parts]
    have = state.have + byte_size(bytes)

    # Parts are joined only when a whole frame is there, so bytes that dribble in cost no copies.
    if have < state.need,
      do: {:ok, [], %{state | have: have, parts: parts}},
      else: cut(parts |> Enum.reverse() |> IO.iodata_to_binary(), [])
  end

  @doc "Whether the stream stands in the middle of a frame."
  @spec partial?(t) :: boolean
  def partial?(%__MODULE__{have: have}), do: have > 0

  defp cut(<<size::32, _rest::binary>>, _frames) when size > @max_frame do
    {:error, "a frame of #{size} bytes is longer than #{@max_frame}"}
  end

  defp cut(<<size::32, frame::binary-size(size), rest::binary>>, frames) do
    cut(rest, [frame | frames])
  end

  defp cut(rest, frames), do: {:ok, Enum.reverse(frames), remember(rest)}

  defp remember(<<>>), do: %__MODULE__{}

  defp remember(<<size::32, _rest::binary>> = bytes) do
    %__MODULE__{need: 4 + size, have: byte_size(bytes), parts: [bytes]}
  end

  defp remember(bytes), do: %__MODULE__{need: 4, have: byte_size(bytes), parts: [bytes]}
end
