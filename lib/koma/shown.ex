defmodule Koma.Shown do
  @moduledoc """
  Values as people read them in messages and errors: text in quotes, numbers as one writes them, objects and
  lists as JSON, and all of them shortened. No form of a value is Elixir's own.
  """

  alias Koma.JSON

  # Long enough to recognise what was sent, short enough for a log line.
  @max_value 200
  # Of a text within a sentence the beginning is enough.
  @max_text 80
  # A number of more digits says nothing that its length does not.
  @max_digits 30

  @doc """
  A value beside a message: what JSON can say in short stays as it is, everything else becomes text.
  """
  @spec value(term) :: nil | boolean | number | String.t()
  def value(value) when is_boolean(value) or is_nil(value) or is_float(value), do: value

  def value(value) when is_integer(value) do
    if digits(value) > @max_digits, do: number(value), else: value
  end

  def value(value) when is_atom(value), do: Atom.to_string(value)

  def value(value) when is_binary(value) do
    if String.valid?(value), do: shorten(value, @max_value), else: bytes(value)
  end

  def value({:binary, bytes}) when is_binary(bytes), do: bytes(bytes)
  def value(value), do: value |> json() |> shorten(@max_value)

  @doc "A value within a sentence."
  @spec text(term) :: String.t()
  def text(nil), do: "null"
  def text(value) when is_number(value), do: number(value)
  def text(value) when is_atom(value), do: Atom.to_string(value)

  def text(value) when is_binary(value) do
    if String.valid?(value), do: value |> shorten(@max_text) |> json(), else: bytes(value)
  end

  def text({:binary, bytes}) when is_binary(bytes), do: bytes(bytes)
  def text(value), do: value |> json() |> shorten(@max_text)

  @doc "Why something went wrong, as the runtime tells it: a term of any shape, in words where it has some."
  @spec reason(term) :: String.t()
  def reason(reason) when is_atom(reason), do: reason |> Atom.to_string() |> words()
  def reason(reason) when is_binary(reason), do: value(reason)
  def reason(reason) when is_exception(reason), do: reason |> Exception.message() |> value()
  def reason({reason, _details}), do: reason(reason)
  def reason(_term), do: "an error of the server; its log says more"

  defp words(name), do: String.replace(name, "_", " ")

  defp number(number) when is_integer(number) do
    count = digits(number)
    if count > @max_digits, do: "a number of #{count} digits", else: Integer.to_string(number)
  end

  # 3 for 3.0 and 1e-38 for 1.0e-38, as people and JavaScript write them.
  defp number(number) do
    number |> :erlang.float_to_binary([:short]) |> String.replace(~r/\.0(?=e|\z)/, "")
  end

  defp digits(number), do: number |> abs() |> Integer.to_string() |> byte_size()

  defp bytes(<<_one>>), do: "1 byte that is no text"
  defp bytes(bytes), do: "#{byte_size(bytes)} bytes that are no text"

  defp json(value) do
    JSON.encode!(value)
  rescue
    _no_json in [ErlangError, ArgumentError] -> "something that is no JSON"
  end

  defp shorten(text, limit) do
    if String.length(text) > limit, do: String.slice(text, 0, limit) <> "…", else: text
  end
end
