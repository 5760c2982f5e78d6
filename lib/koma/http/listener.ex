defmodule Koma.HTTP.Listener do
  @moduledoc """
  The TCP listener: Ranch accepts, Cowboy speaks HTTP/1.1 and WebSocket.

  HTTP/2 is for connections with TLS, which a proxy in front ends. Here a client that begins with it is
  answered 400, and one that offers an upgrade to it is served by HTTP/1.1 (`scripts/mend-cowboy.escript`).

  Once it listens, the port is logged and, where `port_file` is set, written there, so that a
  server on port 0 can be found.
  """

  require Logger

  alias Koma.HTTP.{Connection, Framing}
  alias Koma.Options

  @ref __MODULE__

  @backlog 1_024

  # A client that says nothing, or that does not read what it asked for, is let go.
  @idle_timeout_ms 60_000
  @send_timeout_ms 30_000

  # Packets (1,460 bytes) that may wait in the mailbox of a connection; TCP slows down who sends more.
  @packets_at_once 16

  # Of a body that nobody wants to read, for the sake of the next request; beyond, the connection is closed.
  @skipped_bytes 64 * 1024

  # What a stop leaves to answers that are under way. All connections hang below one supervisor of
  # Ranch's, so that this is the wait of them all: a connection that becomes a WebSocket just then
  # asks Ranch's supervisors to forget it (`ranch:remove_connection/1`), which wait for it to end.
  @shutdown_ms 2_000

  @doc "Runs as a supervisor: Ranch's own tree hangs below ours."
  @spec child_spec({Options.t(), :cowboy_router.dispatch_rules()}) :: Supervisor.child_spec()
  def child_spec({options, dispatch}) do
    %{id: __MODULE__, start: {__MODULE__, :start_link, [options, dispatch]}, type: :supervisor}
  end

  @doc """
  Looks at start whether the port can be had, before jobs are taken up that a server without a
  port would only drop again; no process stays.
  """
  @spec check_spec(Options.t()) :: Supervisor.child_spec()
  def check_spec(options) do
    %{id: {__MODULE__, :check}, start: {__MODULE__, :check, [options]}, restart: :temporary}
  end

  @doc false
  @spec check(Options.t()) :: :ignore | {:error, String.t()}
  def check(%Options{port: port, roles: roles} = options) do
    if port != 0 and :gateway in roles, do: try_port(options), else: :ignore
  end

  # Ranch sets the same option.
  defp try_port(%Options{bind: bind, port: port}) do
    case :gen_tcp.listen(port, ip: address(bind), reuseaddr: true) do
      {:ok, socket} -> with :ok <- :gen_tcp.close(socket), do: :ignore
      {:error, reason} -> {:error, cannot_listen(bind, port, reason)}
    end
  end

  defp cannot_listen(bind, port, :eaddrinuse) do
    "Port #{port} of #{bind} is in use by another program (eaddrinuse). " <>
      "Stop that one first, or name another port in KOMA_PORT."
  end

  defp cannot_listen(bind, port, reason) do
    "Koma cannot listen on port #{port} of #{bind}: #{:inet.format_error(reason)} (#{reason})."
  end

  @doc "Listens on `bind` and `port`; `dispatch` is the table of routes in Cowboy's form."
  @spec start_link(Options.t(), :cowboy_router.dispatch_rules()) :: {:ok, pid} | {:error, term}
  def start_link(%Options{} = options, dispatch) do
    %{start: {module, function, arguments}} =
      :ranch.child_spec(
        @ref,
        :ranch_tcp,
        transport(options),
        Connection,
        protocol(options, dispatch)
      )

    case apply(module, function, arguments) do
      {:ok, pid} ->
        announce(options, port())
        {:ok, pid}

      {:error, {:listen_error, _ref, reason}} ->
        {:error, cannot_listen(options.bind, options.port, reason)}

      {:error, reason} ->
        {:error, reason}
    end
  end

  @doc "The port that the listener got."
  @spec port() :: :inet.port_number()
  def port, do: :ranch.get_port(@ref)

  @doc "Accepts no more connections; those that are open go on."
  @spec suspend() :: :ok | {:error, term}
  def suspend, do: :ranch.suspend_listener(@ref)

  defp transport(options) do
    %{
      # Connections are counted and bounded by `Koma.Access.Connections`, WebSockets among them.
      max_connections: :infinity,
      num_acceptors: 16,
      num_conns_sups: 1,
      shutdown: @shutdown_ms,
      socket_opts: [
        ip: address(options.bind),
        port: options.port,
        backlog: @backlog,
        keepalive: true,
        nodelay: true,
        send_timeout: @send_timeout_ms,
        send_timeout_close: true
      ]
    }
  end

  defp address(bind) do
    case bind |> String.to_charlist() |> :inet.parse_address() do
      {:ok, address} -> address
      {:error, :einval} -> raise ArgumentError, "option bind: #{inspect(bind)} is no IP address"
    end
  end

  defp protocol(options, dispatch) do
    %{
      env: %{dispatch: dispatch},
      active_n: @packets_at_once,
      max_skip_body_length: @skipped_bytes,
      stream_handlers: [Framing, :cowboy_stream_h],
      request_timeout: options.header_timeout_ms,
      idle_timeout: @idle_timeout_ms,
      inactivity_timeout: @idle_timeout_ms
    }
  end

  defp announce(options, port) do
    Logger.info("Koma listens on http://#{options.bind}:#{port}")
    if options.port_file, do: write_port(options.port_file, port)
  end

  # Renamed into place, so that whoever waits for the file never reads half of it.
  defp write_port(path, port) do
    temporary = path <> ".tmp"
    File.write!(temporary, Integer.to_string(port))
    File.rename!(temporary, path)
  end
end
