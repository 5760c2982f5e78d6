defmodule Koma.EchoSocket do
  @moduledoc """
  A WebSocket that sends back what it gets, over the connections of the real listener and with the
  options of `Koma.Socket.Handler`. It is part of the tests only.
  """

  @behaviour :cowboy_websocket

  alias Koma.HTTP.{Connection, Framing}

  @doc "Listens beside the server of the test; returns the port. It ends with the test."
  @spec start() :: :inet.port_number()
  def start do
    dispatch = :cowboy_router.compile([{:_, [{"/echo", __MODULE__, []}]}])
    ref = make_ref()
    protocol = %{env: %{dispatch: dispatch}, stream_handlers: [Framing, :cowboy_stream_h]}
    transport = %{socket_opts: [ip: {127, 0, 0, 1}, port: 0, nodelay: true]}
    {:ok, _listener} = :ranch.start_listener(ref, :ranch_tcp, transport, Connection, protocol)
    ExUnit.Callbacks.on_exit(fn -> :ranch.stop_listener(ref) end)
    :ranch.get_port(ref)
  end

  @impl true
  def init(req, state) do
    {:cowboy_websocket, req, state, Koma.Socket.Handler.options(:socket)}
  end

  @impl true
  def websocket_handle({kind, data}, state) when kind in [:text, :binary],
    do: {[{kind, data}], state}

  def websocket_handle(_control, state), do: {[], state}

  @impl true
  def websocket_info(_message, state), do: {[], state}
end
