defmodule Koma.Redis.Address do
  @moduledoc "Where a Redis is and how to log in: `redis://user:password@host:port/database`. Pure."

  @derive {Inspect, except: [:password]}
  @enforce_keys [:host]
  defstruct [:host, :user, :password, port: 6379, database: 0]

  @type t :: %__MODULE__{
          host: String.t(),
          port: :inet.port_number(),
          user: String.t() | nil,
          password: String.t() | nil,
          database: non_neg_integer
        }

  @doc "Reads a URL; the message of an error does not repeat it, since it may hold a password."
  @spec parse(String.t()) :: {:ok, t} | {:error, String.t()}
  def parse(url) do
    case URI.new(url) do
      {:ok, %URI{scheme: "redis", host: host} = uri} when is_binary(host) and host != "" ->
        with {:ok, database} <- database(uri.path), do: {:ok, build(uri, database)}

      {:ok, %URI{scheme: "rediss"}} ->
        {:error, "TLS (rediss://) is not supported: put a TLS proxy before Redis"}

      _other ->
        {:error, "it is not of the form redis://user:password@host:port/database"}
    end
  end

  defp build(uri, database) do
    {user, password} = credentials(uri.userinfo)
    address = %__MODULE__{host: uri.host, database: database, user: user, password: password}
    %{address | port: uri.port || address.port}
  end

  defp database(path) when path in [nil, "", "/"], do: {:ok, 0}

  defp database("/" <> number) do
    case Integer.parse(number) do
      {database, ""} when database >= 0 -> {:ok, database}
      _other -> {:error, "the database #{inspect(number)} is not a number"}
    end
  end

  # A lone word is the user in a URL, but people write redis://:password@ and redis://password@.
  defp credentials(nil), do: {nil, nil}

  defp credentials(text) do
    case String.split(text, ":", parts: 2) do
      [password] -> {nil, decode(password)}
      ["", password] -> {nil, decode(password)}
      [user, password] -> {decode(user), decode(password)}
    end
  end

  defp decode(text), do: URI.decode(text)

  @doc "The address without the password, for logs."
  @spec show(t) :: String.t()
  def show(%__MODULE__{host: host, port: port, database: database}) do
    "#{host}:#{port}/#{database}"
  end

  @doc "What logs in and chooses the database, in this order."
  @spec commands(t) :: [[String.t()]]
  def commands(%__MODULE__{} = address) do
    login(address) ++ [["SELECT", Integer.to_string(address.database)]]
  end

  defp login(%{password: nil}), do: []
  defp login(%{user: nil, password: password}), do: [["AUTH", password]]
  defp login(%{user: user, password: password}), do: [["AUTH", user, password]]
end
