defmodule Koma.Channel.Sockets do
  @moduledoc """
  The WebSocket connections of this gateway. The process of each connection enters itself here, so
  that the metrics and the dashboard can count the connections and a stop can close them.
  """

  @registry Koma.Socket.Registry

  @doc "The specification of the registry, for a supervisor."
  @spec child_spec(term) :: Supervisor.child_spec()
  def child_spec(_options), do: Registry.child_spec(keys: :duplicate, name: @registry)

  @doc "Enters the calling process as one connection."
  @spec enter() :: :ok
  def enter do
    {:ok, _owner} = Registry.register(@registry, :sockets, nil)
    :ok
  end

  @doc "The number of connections that are open."
  @spec count() :: non_neg_integer
  def count, do: Registry.count(@registry)

  @doc "The processes of the connections that are open."
  @spec all() :: [pid]
  def all, do: for({socket, nil} <- Registry.lookup(@registry, :sockets), do: socket)

  @doc "Asks every connection to close with 1012 (restart); the clients connect again."
  @spec close_all() :: :ok
  def close_all, do: Enum.each(all(), &send(&1, :koma_restart))
end
