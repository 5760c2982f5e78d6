defmodule Koma.Access.Policy do
  @moduledoc """
  Who is let in: those who show a key or, where no keys are configured, everybody. Pure.

  Without keys the server listens on loopback only, where everybody is operator of their own
  machine. With `open` it listens anywhere without keys, and nobody is operator.
  """

  alias Koma.Access.{Key, Keyring}
  alias Koma.{Caller, Error, Options}

  @enforce_keys [:keyring, :anonymous_roles]
  defstruct [:keyring, :anonymous_roles]

  @type t :: %__MODULE__{keyring: Keyring.t() | nil, anonymous_roles: [Caller.role()]}

  @doc "Whether the options ask for keys."
  @spec keys?(Options.t()) :: boolean
  def keys?(%Options{keys: keys, keys_file: file}), do: keys != nil or file != nil

  @doc "The policy of a server with keys."
  @spec with_keys([Key.t()], blind :: binary) :: t
  def with_keys(keys, blind) do
    %__MODULE__{keyring: Keyring.new(keys, blind), anonymous_roles: []}
  end

  @doc "The policy of a server without keys, or why it must not run so."
  @spec without_keys(Options.t()) :: {:ok, t} | {:error, String.t()}
  def without_keys(%Options{bind: bind, open: open}) do
    cond do
      loopback?(bind) ->
        {:ok, %__MODULE__{keyring: nil, anonymous_roles: [:operator]}}

      open ->
        {:ok, %__MODULE__{keyring: nil, anonymous_roles: []}}

      true ->
        {:error,
         "without API keys the server listens on loopback only, not on #{bind}. Make a key " <>
           "(koma keys new) and name its file in KOMA_KEYS_FILE, or listen on 127.0.0.1, or let " <>
           "everybody in with KOMA_OPEN=on"}
    end
  end

  @doc "The caller who shows `secret`, or nothing."
  @spec authenticate(t, secret :: String.t() | nil) :: {:ok, Caller.t()} | {:error, Error.t()}
  def authenticate(%__MODULE__{keyring: nil, anonymous_roles: roles}, _not_looked_at) do
    {:ok, %Caller{roles: roles}}
  end

  def authenticate(_policy, none) when none in [nil, ""] do
    message =
      "This server asks for an API key: send it as `authorization: Bearer …`, " <>
        "`x-api-key: …` or `api_key=…` in the query."

    {:error, Error.new("unauthorized", message)}
  end

  def authenticate(%__MODULE__{keyring: keyring}, secret) do
    case Keyring.find(keyring, secret) do
      {:ok, key, credential} ->
        {:ok, %Caller{key: key.id, roles: key.roles, credential: credential}}

      :error ->
        {:error, unknown()}
    end
  end

  @doc "Whether what the caller showed is still worth the same: its key is there, with its roles."
  @spec valid?(t, Caller.t()) :: boolean
  def valid?(%__MODULE__{keyring: nil}, %Caller{key: key}), do: key == nil

  def valid?(%__MODULE__{keyring: keyring}, %Caller{credential: credential, roles: roles}) do
    match?({:ok, %Key{roles: ^roles}}, Keyring.fetch(keyring, credential))
  end

  @doc "The caller with the roles of its key now, or of anybody where no keys are."
  @spec current(t, Caller.t()) :: {:ok, Caller.t()} | {:error, Error.t()}
  def current(%__MODULE__{keyring: nil, anonymous_roles: roles}, %Caller{key: nil} = caller) do
    {:ok, %Caller{caller | roles: roles}}
  end

  def current(policy, %Caller{key: id} = caller) do
    case key(policy, id) do
      {:ok, key} -> {:ok, %Caller{caller | roles: key.roles}}
      :error -> {:error, unknown()}
    end
  end

  defp unknown, do: Error.new("unauthorized", "The API key is not known.")

  @doc "The key of this id."
  @spec key(t, id :: String.t() | nil) :: {:ok, Key.t()} | :error
  def key(%__MODULE__{keyring: keyring}, id) when keyring == nil or id == nil, do: :error
  def key(%__MODULE__{keyring: keyring}, id), do: Map.fetch(keyring.keys, id)

  @doc "Whether an address to listen on is reached from this machine only."
  @spec loopback?(String.t()) :: boolean
  def loopback?(bind) do
    case bind |> String.to_charlist() |> :inet.parse_address() do
      {:ok, {127, _, _, _}} -> true
      {:ok, {0, 0, 0, 0, 0, 0, 0, 1}} -> true
      {:ok, {0, 0, 0, 0, 0, 0xFFFF, high, _low}} -> div(high, 256) == 127
      _elsewhere -> false
    end
  end
end
