defmodule Koma.Wire.Msgpack do
  @moduledoc """
  MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md), the part that the wire
  uses: nil, booleans, 64-bit integers, floats, text, bytes, lists and maps with string keys.

  Text is an Elixir string; bytes are `{:bin, binary}`. Extension types, NaN, infinities, other
  keys and duplicate keys are refused, and so is everything beyond the limits of docs/wire.md.
  Decoded text and bytes are sub-binaries of the input: nothing is copied.
  """

  # Parameters are nested; a schema needs about 8 levels.
  @max_depth 16
  # A prompt has its own, smaller bound; this one only keeps a broken sender from filling memory.
  @max_string 1024 * 1024

  @type value ::
          nil
          | boolean
          | integer
          | float
          | String.t()
          | {:bin, binary}
          | [value]
          | %{String.t() => value}

  @doc "How deeply values may be nested."
  @spec max_depth() :: pos_integer
  def max_depth, do: @max_depth

  @doc "How many bytes a text may have."
  @spec max_string() :: pos_integer
  def max_string, do: @max_string

  @doc "Encodes a value in its shortest form. Raises `ArgumentError` for what cannot travel."
  @spec encode(value) :: iodata
  def encode(nil), do: <<0xC0>>
  def encode(false), do: <<0xC2>>
  def encode(true), do: <<0xC3>>
  def encode(value) when is_integer(value), do: integer(value)
  def encode(value) when is_float(value), do: <<0xCB, value::float>>
  def encode({:bin, bytes}) when is_binary(bytes), do: [bin_header(byte_size(bytes)), bytes]

  def encode(text) when is_binary(text) do
    unless String.valid?(text),
      do: raise(ArgumentError, "text is not UTF-8; wrap bytes in {:bin, _}")

    [str_header(byte_size(text)), text]
  end

  def encode(list) when is_list(list), do: [list_header(length(list)) | Enum.map(list, &encode/1)]

  def encode(map) when is_map(map) and not is_struct(map) do
    [map_header(map_size(map)) | Enum.map(map, fn {key, value} -> [key(key), encode(value)] end)]
  end

  def encode(other), do: raise(ArgumentError, "cannot travel as MessagePack: #{inspect(other)}")

  defp key(key) when is_binary(key), do: encode(key)
  defp key(key), do: raise(ArgumentError, "map keys are strings, not #{inspect(key)}")

  defp integer(n) when n in 0..0x7F, do: <<n>>
  defp integer(n) when n in -32..-1, do: <<n::8>>
  defp integer(n) when n in 0..0xFF, do: <<0xCC, n>>
  defp integer(n) when n in 0..0xFFFF, do: <<0xCD, n::16>>
  defp integer(n) when n in 0..0xFFFF_FFFF, do: <<0xCE, n::32>>
  defp integer(n) when n in 0..0xFFFF_FFFF_FFFF_FFFF, do: <<0xCF, n::64>>
  defp integer(n) when n in -0x80..-1, do: <<0xD0, n::8>>
  defp integer(n) when n in -0x8000..-1, do: <<0xD1, n::16>>
  defp integer(n) when n in -0x8000_0000..-1, do: <<0xD2, n::32>>
  defp integer(n) when n in -0x8000_0000_0000_0000..-1, do: <<0xD3, n::64>>
  defp integer(n), do: raise(ArgumentError, "#{n} does not fit into 64 bits")

  defp str_header(n) when n < 32, do: <<0b101::3, n::5>>
  defp str_header(n) when n <= 0xFF, do: <<0xD9, n>>
  defp str_header(n) when n <= 0xFFFF, do: <<0xDA, n::16>>
  defp str_header(n), do: <<0xDB, n::32>>

  defp bin_header(n) when n <= 0xFF, do: <<0xC4, n>>
  defp bin_header(n) when n <= 0xFFFF, do: <<0xC5, n::16>>
  defp bin_header(n), do: <<0xC6, n::32>>

  defp list_header(n) when n < 16, do: <<0b1001::4, n::4>>
  defp list_header(n) when n <= 0xFFFF, do: <<0xDC, n::16>>
  defp list_header(n), do: <<0xDD, n::32>>

  defp map_header(n) when n < 16, do: <<0b1000::4, n::4>>
  defp map_header(n) when n <= 0xFFFF, do: <<0xDE, n::16>>
  defp map_header(n), do: <<0xDF, n::32>>

  @doc "Decodes exactly one value; the reason of an error is a sentence for a log line."
  @spec decode(binary) :: {:ok, value} | {:error, String.t()}
  def decode(bytes) when is_binary(bytes) do
    case value(bytes, 0) do
      {value, <<>>} -> {:ok, value}
      {_value, rest} -> {:error, "#{byte_size(rest)} bytes follow the value"}
    end
  catch
    {:malformed, reason} -> {:error, reason}
  end

  defp value(_bytes, depth) when depth > @max_depth do
    malformed("nested more deeply than #{@max_depth}")
  end

  defp value(<<0::1, n::7, rest::binary>>, _depth), do: {n, rest}
  defp value(<<0b111::3, n::5, rest::binary>>, _depth), do: {n - 32, rest}
  defp value(<<0b101::3, n::5, rest::binary>>, _depth), do: text(n, rest)
  defp value(<<0b1001::4, n::4, rest::binary>>, depth), do: list(n, rest, depth)
  defp value(<<0b1000::4, n::4, rest::binary>>, depth), do: map(n, rest, depth)
  defp value(<<0xC0, rest::binary>>, _depth), do: {nil, rest}
  defp value(<<0xC2, rest::binary>>, _depth), do: {false, rest}
  defp value(<<0xC3, rest::binary>>, _depth), do: {true, rest}
  defp value(<<0xC4, n, rest::binary>>, _depth), do: bytes(n, rest)
  defp value(<<0xC5, n::16, rest::binary>>, _depth), do: bytes(n, rest)
  defp value(<<0xC6, n::32, rest::binary>>, _depth), do: bytes(n, rest)
  defp value(<<0xCA, x::float-32, rest::binary>>, _depth), do: {x, rest}
  defp value(<<0xCB, x::float-64, rest::binary>>, _depth), do: {x, rest}
  defp value(<<0xCC, n, rest::binary>>, _depth), do: {n, rest}
  defp value(<<0xCD, n::16, rest::binary>>, _depth), do: {n, rest}
  defp value(<<0xCE, n::32, rest::binary>>, _depth), do: {n, rest}
  defp value(<<0xCF, n::64, rest::binary>>, _depth), do: {n, rest}
  defp value(<<0xD0, n::signed-8, rest::binary>>, _depth), do: {n, rest}
  defp value(<<0xD1, n::signed-16, rest::binary>>, _depth), do: {n, rest}
  defp value(<<0xD2, n::signed-32, rest::binary>>, _depth), do: {n, rest}
  defp value(<<0xD3, n::signed-64, rest::binary>>, _depth), do: {n, rest}
  defp value(<<0xD9, n, rest::binary>>, _depth), do: text(n, rest)
  defp value(<<0xDA, n::16, rest::binary>>, _depth), do: text(n, rest)
  defp value(<<0xDB, n::32, rest::binary>>, _depth), do: text(n, rest)
  defp value(<<0xDC, n::16, rest::binary>>, depth), do: list(n, rest, depth)
  defp value(<<0xDD, n::32, rest::binary>>, depth), do: list(n, rest, depth)
  defp value(<<0xDE, n::16, rest::binary>>, depth), do: map(n, rest, depth)
  defp value(<<0xDF, n::32, rest::binary>>, depth), do: map(n, rest, depth)
  defp value(<<>>, _depth), do: malformed("ends in the middle of a value")

  # Erlang's floats have no NaN and no infinities, so the patterns above do not match them.
  defp value(<<tag, rest::binary>>, _depth) when tag in [0xCA, 0xCB] do
    size = if tag == 0xCA, do: 4, else: 8

    if byte_size(rest) < size,
      do: malformed("ends in the middle of a float"),
      else: malformed("a float is NaN or infinite")
  end

  defp value(<<tag, _rest::binary>>, _depth)
       when tag in [0xC1, 0xC7, 0xC8, 0xC9] or tag in 0xD4..0xD8 do
    malformed("type byte 0x#{Integer.to_string(tag, 16)} is not used on this wire")
  end

  defp value(<<_tag, _rest::binary>>, _depth), do: malformed("ends in the middle of a value")

  defp text(n, _rest) when n > @max_string do
    malformed("a text of #{n} bytes is longer than #{@max_string}")
  end

  defp text(n, rest) do
    {text, rest} = take(n, rest)
    if String.valid?(text), do: {text, rest}, else: malformed("a text is not UTF-8")
  end

  defp bytes(n, rest) do
    {bytes, rest} = take(n, rest)
    {{:bin, bytes}, rest}
  end

  defp take(n, rest) do
    case rest do
      <<taken::binary-size(n), rest::binary>> -> {taken, rest}
      _short -> malformed("ends #{n - byte_size(rest)} bytes too early")
    end
  end

  # Every element needs a byte, so a count beyond the bytes left is refused before any work.
  defp list(n, rest, _depth) when n > byte_size(rest),
    do: malformed("a list of #{n} is cut short")

  defp list(n, rest, depth), do: elements(n, rest, depth + 1, [])

  defp elements(0, rest, _depth, acc), do: {Enum.reverse(acc), rest}

  defp elements(n, rest, depth, acc) do
    {value, rest} = value(rest, depth)
    elements(n - 1, rest, depth, [value | acc])
  end

  defp map(n, rest, _depth) when 2 * n > byte_size(rest),
    do: malformed("a map of #{n} is cut short")

  defp map(n, rest, depth), do: entries(n, rest, depth + 1, %{})

  defp entries(0, rest, _depth, acc), do: {acc, rest}

  defp entries(n, rest, depth, acc) do
    {key, rest} = value(rest, depth)

    cond do
      not is_binary(key) -> malformed("a map key is not a text")
      is_map_key(acc, key) -> malformed("the key #{inspect(key)} occurs twice")
      true -> :ok
    end

    {value, rest} = value(rest, depth)
    entries(n - 1, rest, depth, Map.put(acc, key, value))
  end

  @spec malformed(String.t()) :: no_return
  defp malformed(reason), do: throw({:malformed, reason})
end
