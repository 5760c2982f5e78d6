defmodule Koma.Access do
  @moduledoc """
  Who may use this server, and how much of it: see docs/security.md.

  The pure parts are `Koma.Access.KeyFile` (what an operator writes), `Keyring` (secrets to keys)
  and `Policy` (who is let in); `Keys` is the process that reads the file.
  """
  use Supervisor

  alias Koma.Access.{Key, Keys, Policy}
  alias Koma.{Caller, Error, Options, Queue, Telemetry}

  @doc "Starts it; raises when the options name no keys where keys are needed, or broken ones."
  @spec start_link(Options.t()) :: Supervisor.on_start()
  def start_link(%Options{} = options) do
    Supervisor.start_link(__MODULE__, options, name: __MODULE__)
  end

  @doc """
  The caller who shows `secret` (`nil`: none), or `unauthorized`. Where no keys are configured
  everybody is let in and nothing is looked at.
  """
  @spec authenticate(secret :: String.t() | nil) :: {:ok, Caller.t()} | {:error, Error.t()}
  def authenticate(secret) do
    with {:error, error} <- Policy.authenticate(Keys.policy(), secret) do
      Telemetry.execute([:koma, :access, :refused], %{count: 1}, %{code: error.code})
      {:error, error}
    end
  end

  @doc "Whether the caller may act on the server itself."
  @spec operator?(Caller.t()) :: boolean
  def operator?(%Caller{roles: roles}), do: :operator in roles

  @doc "Whether the caller is somebody: of a known key, or anybody where keys are not asked for."
  @spec known?(Caller.t()) :: boolean
  def known?(%Caller{key: key}), do: key != nil or not keys?()

  @doc "Whether the caller may read the metrics: by role or, where no keys are, anybody."
  @spec check_metrics(Caller.t()) :: :ok | {:error, Error.t()}
  def check_metrics(%Caller{roles: roles}) do
    if :metrics in roles or :operator in roles or not keys?(),
      do: :ok,
      else: {:error, Error.new("forbidden", "This needs a key with the role metrics.")}
  end

  @doc "Whether the caller may act on the server itself, or `forbidden`."
  @spec check_operator(Caller.t()) :: :ok | {:error, Error.t()}
  def check_operator(caller) do
    if operator?(caller),
      do: :ok,
      else: {:error, Error.new("forbidden", "This needs a key with the role operator.")}
  end

  @doc """
  An operator who acts for another key: its jobs are theirs then. `forbidden` for anybody else.
  """
  @spec on_behalf(Caller.t(), key :: String.t() | nil) :: {:ok, Caller.t()} | {:error, Error.t()}
  def on_behalf(%Caller{} = caller, key) do
    with :ok <- check_operator(caller), do: {:ok, %Caller{caller | key: key}}
  end

  @doc "Whether a caller who was let in before would be let in now, with the same roles."
  @spec valid?(Caller.t()) :: boolean
  def valid?(caller), do: Policy.valid?(Keys.policy(), caller)

  @doc "The same caller with the roles of its key now; `unauthorized` if that is gone."
  @spec current(Caller.t()) :: {:ok, Caller.t()} | {:error, Error.t()}
  def current(%Caller{} = caller), do: Policy.current(Keys.policy(), caller)

  @doc "Whether callers show keys here."
  @spec keys?() :: boolean
  def keys?, do: Keys.policy().keyring != nil

  @doc "The weights of the keys, by id."
  @spec weights() :: %{String.t() => pos_integer}
  def weights do
    case Keys.policy().keyring do
      nil -> %{}
      keyring -> Map.new(keyring.keys, fn {id, %Key{weight: weight}} -> {id, weight} end)
    end
  end

  @doc "Reads the keys anew, as it happens by itself when their file has changed."
  @spec reload() :: :ok | {:error, String.t()}
  defdelegate reload, to: Keys

  @doc false
  # Called by Keys after the keys were read anew.
  @spec changed() :: :ok
  def changed, do: Queue.weigh(weights())

  @impl Supervisor
  def init(options), do: Supervisor.init([{Keys, options}], strategy: :one_for_one)
end
