defmodule Koma.Live.Token do
  @moduledoc """
  Signed values in the hands of browsers: what they say, when it was said, and an HMAC-SHA-256 over
  both with the key of this server (`Koma.Secret`). They are signed, not encrypted.

  A token for one purpose is none for another.
  """

  alias Koma.{JSON, Secret}

  @type purpose :: :cookie | :page | :csrf

  @doc "A token of URL-safe characters for a JSON value."
  @spec sign(purpose, JSON.value()) :: String.t()
  def sign(purpose, value) do
    text = [value, System.system_time(:second)] |> JSON.encode!() |> IO.iodata_to_binary()
    encode(text) <> "." <> encode(mac(purpose, text))
  end

  @doc "The value of a token that this server signed for that purpose within `max_age_s`."
  @spec verify(purpose, term, max_age_s :: pos_integer) :: {:ok, JSON.value()} | :error
  def verify(purpose, token, max_age_s) when is_binary(token) do
    with [text, mac] <- String.split(token, ".", parts: 2),
         {:ok, text} <- decode(text),
         {:ok, mac} <- decode(mac),
         true <- same?(mac, mac(purpose, text)),
         {:ok, [value, signed_at]} <- JSON.decode(text),
         true <- System.system_time(:second) - signed_at <= max_age_s do
      {:ok, value}
    else
      _forged_or_old -> :error
    end
  end

  def verify(_purpose, _token, _max_age_s), do: :error

  @doc "A short proof that goes with a secret value, the same each time."
  @spec proof(purpose, String.t()) :: String.t()
  def proof(purpose, value), do: encode(mac(purpose, value))

  @doc "Whether a proof goes with the value."
  @spec proven?(purpose, String.t(), proof :: term) :: boolean
  def proven?(purpose, value, proof), do: is_binary(proof) and same?(proof, proof(purpose, value))

  defp mac(purpose, text) do
    :crypto.mac(:hmac, :sha256, Secret.key(:live), [Atom.to_string(purpose), 0, text])
  end

  # In a time that does not tell how much of it fits.
  defp same?(one, other) do
    byte_size(one) == byte_size(other) and :crypto.hash_equals(one, other)
  end

  defp encode(bytes), do: Base.url_encode64(bytes, padding: false)
  defp decode(text), do: Base.url_decode64(text, padding: false)
end
