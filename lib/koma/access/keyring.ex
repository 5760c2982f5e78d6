defmodule Koma.Access.Keyring do
  @moduledoc """
  The keys, found by a secret in constant time, by construction: the secret is hashed, the hash is
  keyed with the random `blind` of this server (`Koma.Secret`), and that is looked up. How long the
  look-up takes depends on a value that nobody outside can compute, so it tells nothing of the
  digests that are stored; what is found is compared in constant time. Pure.
  """

  alias Koma.Access.Key

  # No key is longer; nothing longer is hashed.
  @max_secret_bytes 256

  @enforce_keys [:blind, :keys, :secrets]
  defstruct [:blind, :keys, :secrets]

  @typedoc "Names one secret of one key without telling it."
  @type credential :: <<_::256>>
  @type t :: %__MODULE__{
          blind: binary,
          keys: %{String.t() => Key.t()},
          secrets: %{credential => {digest :: <<_::256>>, id :: String.t()}}
        }

  @doc "A ring of keys; `blind` is 32 random bytes."
  @spec new([Key.t()], binary) :: t
  def new(keys, blind) do
    secrets =
      for %Key{id: id, digests: digests} <- keys,
          digest <- digests,
          into: %{},
          do: {credential(digest, blind), {digest, id}}

    %__MODULE__{blind: blind, keys: Map.new(keys, &{&1.id, &1}), secrets: secrets}
  end

  @doc "The key of a secret, and the credential that names the secret from now on."
  @spec find(t, String.t()) :: {:ok, Key.t(), credential} | :error
  def find(_ring, secret) when byte_size(secret) > @max_secret_bytes, do: :error

  def find(%__MODULE__{} = ring, secret) do
    digest = :crypto.hash(:sha256, secret)
    credential = credential(digest, ring.blind)

    with %{^credential => {stored, id}} <- ring.secrets,
         true <- :crypto.hash_equals(stored, digest) do
      {:ok, Map.fetch!(ring.keys, id), credential}
    else
      _unknown -> :error
    end
  end

  @doc "The key that a credential belongs to; `:error` once its secret is no longer there."
  @spec fetch(t, credential) :: {:ok, Key.t()} | :error
  def fetch(%__MODULE__{secrets: secrets, keys: keys}, credential) do
    with {:ok, {_digest, id}} <- Map.fetch(secrets, credential), do: Map.fetch(keys, id)
  end

  defp credential(digest, blind), do: :crypto.mac(:hmac, :sha256, blind, digest)
end
