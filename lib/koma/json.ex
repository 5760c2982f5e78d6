defmodule Koma.JSON do
  @moduledoc """
  JSON text to terms and back, by jiffy.

  Objects are maps with string keys and `null` is `nil`. What the text may cost is bounded
  here, because every byte of it comes from outside: nesting (`max_depth/0`) and the digits of
  one number (`max_digits/0`; the time Erlang needs for a long integer grows with its square,
  so that one number of a megabyte would hold a scheduler for minutes).
  """

  @typedoc "What `decode/1` returns and `encode!/1` takes (atoms other than booleans become strings)."
  @type value ::
          nil | boolean | number | String.t() | [value] | %{optional(String.t()) => value}

  @max_depth 32
  @max_digits 400
  @decode_options [:return_maps, :copy_strings, {:null_term, nil}]

  @doc "How deep arrays and objects may nest in a text that comes from outside."
  @spec max_depth() :: pos_integer
  def max_depth, do: @max_depth

  @doc "How many digits one number may have; a double needs at most 309 before the point."
  @spec max_digits() :: pos_integer
  def max_digits, do: @max_digits

  @doc """
  Reads one JSON text (RFC 8259).

  Of repeated names in an object the last one counts. Errors are `invalid_json` with the
  position of the first byte that does not fit, or with the bound that was passed.
  """
  @spec decode(iodata) :: {:ok, value} | {:error, Koma.Error.t()}
  def decode(text) do
    text = IO.iodata_to_binary(text)

    with :ok <- check_digits(text),
         {:ok, value} <- parse(text),
         :ok <- check_depth(value) do
      {:ok, value}
    end
  end

  @doc "Like `decode/1` for texts that must hold an object: `invalid_request` for anything else."
  @spec decode_object(iodata) ::
          {:ok, %{optional(String.t()) => value}} | {:error, Koma.Error.t()}
  def decode_object(text) do
    case decode(text) do
      {:ok, object} when is_map(object) ->
        {:ok, object}

      {:ok, _other} ->
        {:error, Koma.Error.new("invalid_request", "The JSON text must be an object.")}

      {:error, error} ->
        {:error, error}
    end
  end

  @doc "Writes a term as JSON text. Raises for terms that JSON has no form for: a bug of the caller."
  @spec encode!(value) :: binary
  def encode!(term), do: term |> :jiffy.encode([:use_nil, :force_utf8]) |> IO.iodata_to_binary()

  defp parse(text) do
    {:ok, :jiffy.decode(text, @decode_options)}
  rescue
    # jiffy raises {position, reason}; a number beyond a double is {:range, number's text}.
    error in ErlangError -> {:error, syntax_error(error.original)}
  end

  defp syntax_error({position, reason}) when is_integer(position) do
    words = reason |> to_string() |> String.replace("_", " ")
    invalid("This is not JSON: #{words} at byte #{position}.", value: position)
  end

  defp syntax_error(_reason), do: invalid("This is not JSON: a number is out of range.")

  defp check_digits(text) do
    if long_number?(text, 0) and long_number_outside_strings?(text, 0) do
      message = "A number has more than #{@max_digits} digits."
      {:error, invalid(message, bound: @max_digits)}
    else
      :ok
    end
  end

  # A row of more than @max_digits digits covers one of the bytes this far apart: only those are
  # looked at, and what is around those that are digits.
  defp long_number?(text, at) when at >= byte_size(text), do: false

  defp long_number?(text, at) do
    digits = digits(text, at, 1) + digits(text, at - 1, -1)
    digits > @max_digits or long_number?(text, at + @max_digits + 1)
  end

  defp digits(text, at, step), do: digits(text, at, step, 0)

  defp digits(text, at, step, count)
       when at >= 0 and at < byte_size(text) and count <= @max_digits do
    if :binary.at(text, at) in ?0..?9, do: digits(text, at + step, step, count + 1), else: count
  end

  defp digits(_text, _at, _step, count), do: count

  # One pass over the bytes that keeps nothing but a count: what is in strings are no numbers.
  defp long_number_outside_strings?(<<digit, rest::binary>>, count) when digit in ?0..?9 do
    count == @max_digits or long_number_outside_strings?(rest, count + 1)
  end

  defp long_number_outside_strings?(<<?", rest::binary>>, _count),
    do: long_number_in_string?(rest)

  defp long_number_outside_strings?(<<_other, rest::binary>>, _count),
    do: long_number_outside_strings?(rest, 0)

  defp long_number_outside_strings?(<<>>, _count), do: false

  defp long_number_in_string?(<<?\\, _escaped, rest::binary>>), do: long_number_in_string?(rest)

  defp long_number_in_string?(<<?", rest::binary>>), do: long_number_outside_strings?(rest, 0)

  defp long_number_in_string?(<<_byte, rest::binary>>), do: long_number_in_string?(rest)

  # The string never ends: the parser will say so.
  defp long_number_in_string?(<<>>), do: false

  defp check_depth(value) do
    if shallow?(value, @max_depth) do
      :ok
    else
      message = "Arrays and objects nest deeper than #{@max_depth}."
      {:error, invalid(message, bound: @max_depth)}
    end
  end

  defp shallow?(value, left) when is_map(value) do
    left > 0 and Enum.all?(value, fn {_key, item} -> shallow?(item, left - 1) end)
  end

  defp shallow?(value, left) when is_list(value) do
    left > 0 and Enum.all?(value, &shallow?(&1, left - 1))
  end

  defp shallow?(_scalar, _left), do: true

  defp invalid(message, fields \\ []), do: Koma.Error.new("invalid_json", message, fields)
end
