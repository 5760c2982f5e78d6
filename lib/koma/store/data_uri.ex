defmodule Koma.Store.DataURI do
  @moduledoc "`data:` URIs (RFC 2397), which carry a small file inside of a text: pure."

  @doc """
  The media type that the URI claims, and its bytes; `:error` where it is no such URI.

      iex> Koma.Store.DataURI.decode("data:text/plain;base64,S29tYQ==")
      {:ok, "text/plain", "Koma"}

      iex> Koma.Store.DataURI.decode("data:,one%20frame")
      {:ok, "text/plain", "one frame"}
  """
  @spec decode(String.t()) :: {:ok, media_type :: String.t(), binary} | :error
  def decode("data:" <> rest) do
    with [head, data] <- :binary.split(rest, ","),
         [media_type | parameters] <- String.split(head, ";"),
         {:ok, bytes} <- bytes(data, "base64" in Enum.map(parameters, &String.downcase/1)) do
      {:ok, claimed(media_type), bytes}
    else
      _malformed -> :error
    end
  end

  def decode(_other), do: :error

  defp claimed(""), do: "text/plain"
  defp claimed(media_type), do: String.downcase(media_type)

  # Programs leave the padding out, and wrap the lines.
  defp bytes(data, true), do: Base.decode64(data, ignore: :whitespace, padding: false)

  defp bytes(data, false), do: {:ok, URI.decode(data)}
end
