defmodule Koma.HTTP.Connection do
  @moduledoc """
  The process of one connection, from Ranch's accept on: it is counted by `Koma.Access.Connections`,
  or refused in a sentence, before Cowboy reads anything of it.

  While it is that of a guest it runs at low priority: what many guests send at once is read when there is
  nothing else to do, and who has shown a key does not wait for it.
  """

  @behaviour :ranch_protocol

  alias Koma.Access.Connections
  alias Koma.{Error, JSON}

  # Cowboy's contract asks for the header of a proxy; this one says that the connection has none.
  @no_proxy %{version: 2, command: :local}

  @impl true
  def start_link(ref, transport, options) do
    {:ok, :proc_lib.spawn_link(__MODULE__, :init, [self(), ref, transport, options])}
  end

  @doc false
  @spec init(pid, term, module, map) :: term
  def init(parent, ref, transport, options) do
    # As `:cowboy_clear` has it: this process supervises those of its requests.
    Process.flag(:trap_exit, true)

    # A client may be gone already.
    with {:ok, socket} <- :ranch.handshake(ref),
         {:ok, {address, _port}} <- transport.peername(socket) do
      case Connections.admit(address) do
        :ok ->
          :ok = rank()
          :cowboy_http.init(parent, ref, socket, transport, @no_proxy, options)

        {:refused, bound} ->
          refuse(socket, transport, bound)
      end
    end
  end

  @doc "Gives the process of a connection, which calls it, the priority that it should have now."
  @spec rank() :: :ok
  def rank do
    _before = Process.flag(:priority, if(Connections.guest?(), do: :low, else: :normal))
    :ok
  end

  defp refuse(socket, transport, {kind, most}) do
    body = JSON.encode!(%{"error" => Error.to_map(error(kind, most))})

    transport.send(socket, [
      "HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\n",
      "content-type: application/json\r\ncontent-length: #{byte_size(body)}\r\n\r\n",
      body
    ])

    transport.shutdown(socket, :write)
    transport.close(socket)
  end

  defp error(kind, most) do
    where = if kind == :all, do: "The server has", else: "Your address has"
    message = "#{where} #{most} connections, which is the most that it may have"
    Error.new("unavailable", message, field: "connections", bound: most, retry_after_ms: 5_000)
  end
end
