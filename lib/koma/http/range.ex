defmodule Koma.HTTP.Range do
  @moduledoc "The `Range` header (RFC 9110, 14.2) for a body of known length: pure."

  @doc """
  The part that is asked for, as `{offset, length}`.

  `:whole` where the header asks for nothing that can be served as one part: it is absent, in
  another unit, malformed, or lists several ranges; the standard lets a server ignore those.
  `:unsatisfiable` where the only range lies beyond the end.

      iex> Koma.HTTP.Range.parse("bytes=2-5", 10)
      {:ok, {2, 4}}

      iex> Koma.HTTP.Range.parse("bytes=-3", 10)
      {:ok, {7, 3}}
  """
  @spec parse(String.t() | nil, non_neg_integer) ::
          :whole | :unsatisfiable | {:ok, {non_neg_integer, pos_integer}}
  def parse(header, size) do
    # No size has 19 digits; longer numbers would only cost time.
    case Regex.run(~r/\Abytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*\z/i, header || "") do
      [_all, "", ""] -> :whole
      [_all, "", last] -> suffix(String.to_integer(last), size)
      [_all, first, ""] -> slice(String.to_integer(first), size - 1, size)
      [_all, first, last] -> slice(String.to_integer(first), String.to_integer(last), size)
      nil -> :whole
    end
  end

  defp suffix(_last, 0), do: :unsatisfiable
  defp suffix(0, _size), do: :unsatisfiable
  defp suffix(last, size), do: {:ok, {max(size - last, 0), min(last, size)}}

  defp slice(first, _last, size) when first >= size, do: :unsatisfiable
  defp slice(first, last, _size) when last < first, do: :whole
  defp slice(first, last, size), do: {:ok, {first, min(last, size - 1) - first + 1}}
end
