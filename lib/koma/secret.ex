defmodule Koma.Secret do
  @moduledoc """
  The secret of this server: the option `secret`, or one that is made at the first start and kept in the
  data folder (`secret`, readable by its owner only). So whatever is signed or named with it is worth the same
  after a restart, and no operator is logged out by one.

  Gateways that are given the same secret and the same API keys let each other's operators in.
  """

  alias Koma.Options
  alias Koma.Store.Folder

  @bytes 32

  @typedoc "A key for one purpose tells nothing of that for another."
  @type purpose :: :live | :access

  @doc "Reads or makes the secret of this server. Raises `File.Error` where it can be neither."
  @spec load(Options.t()) :: :ok
  def load(%Options{secret: nil, data_dir: dir}) do
    Folder.make!(dir)
    path = Path.join(dir, "secret")

    case File.read(path) do
      {:ok, <<secret::binary-size(@bytes)>>} -> put(secret)
      _none_or_torn -> path |> make() |> put()
    end
  end

  def load(%Options{secret: secret}), do: put(secret)

  @doc "The key for a purpose, of 32 bytes."
  @spec key(purpose) :: <<_::256>>
  def key(purpose), do: :persistent_term.get({__MODULE__, purpose})

  defp make(path) do
    secret = :crypto.strong_rand_bytes(@bytes)
    temporary = path <> ".new"
    :ok = Folder.write(temporary, secret)
    File.rename!(temporary, path)
    secret
  end

  # Any length of the secret will do for what is derived from it.
  defp put(secret) do
    for purpose <- [:live, :access] do
      key = :crypto.hash(:sha256, ["koma #{purpose} ", secret])
      :persistent_term.put({__MODULE__, purpose}, key)
    end

    :ok
  end
end
