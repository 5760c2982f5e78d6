defmodule Koma.Socket.Handler do
  @moduledoc """
  Cowboy's callbacks for `/socket/websocket` and, for pages, `/live/websocket`: a translator between
  frames and `Koma.Socket.Connection`, which holds the rules.

  A connection is refused at the handshake, with 403, when its protocol version is not 2.x, its
  origin is another one, or its API key is not known; with 429 when its key has too many. One whose
  key is taken away is closed with 1008; one whose key has other roles now, with 1012, upon which clients
  connect again.
  """

  @behaviour :cowboy_websocket

  alias Koma.Access
  alias Koma.Channel.{Limits, Sockets}
  alias Koma.HTTP.{Auth, Reply}
  alias Koma.Live
  alias Koma.Live.Session
  alias Koma.Socket.Connection
  alias Koma.Telemetry

  # Up to here a frame is read and refused with a code; beyond, Cowboy closes with 1009.
  @hard_max_frame_bytes 2 * Limits.max_frame_bytes()
  # Pages send clicks and short forms, also before anybody has logged in: half a frame of a guest is
  # kept until the rest comes.
  @max_page_frame_bytes 64 * 1024

  # Longer than between the events of a running job; short, as what is not given back at once
  # leaves holes in the memory of the whole emulator when thousands connect.
  @awake_ms 200

  # Bytes that become one write.
  @told_at_once 16 * 1024

  # For the client to answer our close frame.
  @linger_ms 1_000

  @typedoc "For clients, or for live pages, with the module of the page."
  @type endpoint :: :socket | {:live, view :: module}

  @impl true
  def init(req, endpoint) do
    with :ok <- check_version(req),
         :ok <- Auth.check_origin(req),
         {:ok, connection} <- connection(endpoint, req),
         :ok <- Access.admit(connection.caller),
         :ok <- Access.hold(connection.caller, :sockets, req.pid) do
      req = req |> accept_protocol() |> Auth.redact()
      {:cowboy_websocket, req, connection, options(endpoint)}
    else
      {:error, error} -> {:ok, Reply.error(req, status(error), error, %{}), endpoint}
    end
  end

  @doc "Cowboy's options of the sockets of an endpoint."
  @spec options(endpoint) :: :cowboy_websocket.opts()
  def options(endpoint) do
    # Compression would cost some hundred kB per socket; what is large is compressed already.
    %{
      compress: false,
      idle_timeout: :infinity,
      max_frame_size: max_frame_bytes(endpoint),
      req_filter: fn _req -> %{} end
    }
  end

  defp max_frame_bytes({:live, _view}), do: @max_page_frame_bytes
  defp max_frame_bytes(:socket), do: @hard_max_frame_bytes

  defp connection(:socket, req) do
    with {:ok, caller} <- Auth.caller(req), do: {:ok, Connection.new(caller)}
  end

  # A browser cannot read why a handshake was refused; the join of the page can say it.
  defp connection({:live, view}, req) do
    session = Session.of(req)
    {:ok, Connection.new(guest_or(session.caller), &Live.Router.route(&1, session, view))}
  end

  defp guest_or(caller) do
    if caller != nil and Access.valid?(caller), do: caller, else: %Koma.Caller{}
  end

  # The official clients come again after 401 and for ever; 403 they take as final.
  defp status(%Koma.Error{code: "unauthorized"}), do: 403
  defp status(%Koma.Error{code: code}), do: Koma.Error.status(code)

  @impl true
  def websocket_init(connection) do
    :ok = Sockets.enter()
    schedule_idle_check()
    Telemetry.execute([:koma, :socket, :opened], %{count: 1}, %{})
    {[], connection, :hibernate}
  end

  @impl true
  def websocket_handle({type, bytes}, connection) when type in [:text, :binary] do
    Telemetry.span(:socket, fn -> Connection.frame(connection, type, bytes) end) |> rest()
  end

  # Pings and pongs; Cowboy has answered the pings.
  def websocket_handle(_control, connection), do: {[], Connection.heard(connection)}

  @impl true
  def websocket_info(:koma_idle_check = message, connection) do
    schedule_idle_check()
    connection |> Connection.info(message) |> rest()
  end

  # Events come in rows: the process rests after them, not between them.
  def websocket_info({:koma_channel, _channel, what} = message, connection) do
    {commands, connection} = told(message, connection, @told_at_once)

    if match?({:push, _frames}, what),
      do: {commands, stay_awake(connection)},
      else: rest({commands, connection})
  end

  def websocket_info(:koma_rest, connection) do
    {[], %Connection{connection | awake: false}, :hibernate}
  end

  def websocket_info(message, connection), do: connection |> Connection.info(message) |> rest()

  # What the topics have told meanwhile goes with it: one write to the TCP socket for all. Not
  # more than a few kB, since topics send on as soon as theirs is taken.
  defp told(message, connection, left) do
    {commands, connection} = Connection.info(connection, message)
    left = left - Enum.reduce(commands, 0, &(size(&1) + &2))

    if left > 0, do: told_more(commands, connection, left), else: {commands, connection}
  end

  defp told_more(commands, connection, left) do
    receive do
      {:koma_channel, _channel, _what} = message ->
        {more, connection} = told(message, connection, left)
        {commands ++ more, connection}
    after
      0 -> {commands, connection}
    end
  end

  defp size({type, iodata}) when type in [:text, :binary], do: IO.iodata_length(iodata)
  defp size({:active, _reading}), do: 0
  # Nothing can follow.
  defp size({:close, _code, _reason}), do: @told_at_once

  # We have sent a close frame. A socket that is closed while bytes of the client are unread
  # resets the connection, and the client might never read the frame: so they are read away.
  @impl true
  def terminate(reason, _req, _connection) do
    Telemetry.execute([:koma, :socket, :closed], %{count: 1}, %{reason: kind(reason)})
    if linger?(reason), do: linger(now() + @linger_ms), else: :ok
  end

  # What Cowboy adds (codes and texts of clients, stack traces) has no bounds.
  defp kind(reason) when is_tuple(reason), do: elem(reason, 0)
  defp kind(reason), do: reason

  defp linger?(:stop), do: true
  defp linger?({:error, :closed}), do: false
  defp linger?(reason), do: kind(reason) == :error

  defp linger(deadline) do
    receive do
      {:tcp, _socket, _bytes} ->
        linger(deadline)

      {:tcp_passive, socket} ->
        _closed_meanwhile = :inet.setopts(socket, active: 100)
        linger(deadline)

      {:tcp_closed, _socket} ->
        :ok

      {:tcp_error, _socket, _reason} ->
        :ok
    after
      max(deadline - now(), 0) -> :ok
    end
  end

  defp now, do: System.monotonic_time(:millisecond)

  # Most connections wait most of the time; after an answer the process shrinks to what it keeps,
  # unless events flow, after which it will.
  defp rest({commands, %Connection{awake: true} = connection}), do: {commands, connection}
  defp rest({commands, connection}), do: {commands, connection, :hibernate}

  defp stay_awake(%Connection{awake: true} = connection), do: connection

  defp stay_awake(connection) do
    _timer = Process.send_after(self(), :koma_rest, @awake_ms)
    %Connection{connection | awake: true}
  end

  defp schedule_idle_check do
    Process.send_after(self(), :koma_idle_check, Connection.idle_ms())
  end

  defp check_version(req) do
    case :cowboy_req.match_qs([{:vsn, [], "1.0.0"}], req) do
      %{vsn: "2." <> _minor} ->
        :ok

      %{vsn: version} ->
        message = "The protocol version (vsn) must be 2.x, as in vsn=2.0.0."
        details = [field: "vsn", value: version, bound: "2.x"]
        {:error, Koma.Error.new("forbidden", message, details)}
    end
  end

  # A client that offers protocols drops a connection that takes none of them.
  defp accept_protocol(req) do
    if "phoenix" in :cowboy_req.parse_header("sec-websocket-protocol", req, []),
      do: :cowboy_req.set_resp_header("sec-websocket-protocol", "phoenix", req),
      else: req
  end
end
