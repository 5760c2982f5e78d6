defmodule Koma.Live.Secret do
  @moduledoc """
  The key that signs sessions: the option `secret`, or one that is made at the first start and kept
  in the data folder (`secret`, readable by its owner only), so that a restart ends no session.
  """

  alias Koma.Options

  @bytes 32

  @doc "Reads or makes the key of this peer. Raises `File.Error` where it can be neither."
  @spec load(Options.t()) :: :ok
  def load(%Options{secret: nil, data_dir: dir}) do
    File.mkdir_p!(dir)
    path = Path.join(dir, "secret")

    case File.read(path) do
      {:ok, <<key::binary-size(@bytes)>>} -> put(key)
      _none_or_torn -> path |> make() |> put()
    end
  end

  def load(%Options{secret: secret}), do: put(secret)

  @doc "The key."
  @spec get() :: binary
  def get, do: :persistent_term.get(__MODULE__)

  defp make(path) do
    key = :crypto.strong_rand_bytes(@bytes)
    temporary = path <> ".new"
    File.write!(temporary, "")
    File.chmod!(temporary, 0o600)
    File.write!(temporary, key)
    File.rename!(temporary, path)
    key
  end

  # Any length will do for what is derived from it.
  defp put(key), do: :persistent_term.put(__MODULE__, :crypto.hash(:sha256, ["koma live ", key]))
end
