defmodule Koma.EdgeCase do
  @moduledoc """
  Tests of the edge over real sockets: a core of its own (`Koma.CoreCase`) with an edge on a free
  port. WebSockets are opened with gun; HTTP goes through gun or, byte by byte, through gen_tcp.
  """
  use ExUnit.CaseTemplate

  alias Koma.CoreCase
  alias Koma.HTTP.Listener

  @answer_ms 10_000

  using do
    quote do
      import Koma.CoreCase
      import Koma.EdgeCase
      alias Koma.Caller
    end
  end

  setup do
    dir = Koma.TestFolder.new("edge")
    {:ok, _apps} = Application.ensure_all_started(:gun)
    {:ok, dir: dir}
  end

  @doc "Starts a core with an edge below `dir`; returns the port."
  @spec start_server(Path.t(), keyword) :: :inet.port_number()
  def start_server(dir, overrides \\ []) do
    overrides = Keyword.merge([port: 0], overrides)
    :ok = CoreCase.start_core(dir, overrides)
    start_supervised!({Koma.Edge, CoreCase.options(dir, Keyword.delete(overrides, :wait))})
    Listener.port()
  end

  @doc "Stops the edge in an orderly way, as a SIGTERM does."
  @spec stop_edge() :: :ok
  def stop_edge, do: stop_supervised!(Koma.Edge)

  @doc "An open WebSocket of this process: `{connection, stream}` of gun."
  @spec connect(:inet.port_number(), String.t(), [{String.t(), String.t()}], String.t()) ::
          {pid, reference}
  def connect(port, query \\ "vsn=2.0.0", headers \\ [], path \\ "/socket/websocket") do
    {:ok, gun} = :gun.open('127.0.0.1', port, %{retry: 0})
    {:ok, _protocol} = :gun.await_up(gun)
    {offered, headers} = Enum.split_with(headers, &match?({"sec-websocket-protocol", _}, &1))
    stream = :gun.ws_upgrade(gun, path <> "?" <> query, headers, protocols(offered))

    receive do
      {:gun_upgrade, ^gun, ^stream, ["websocket"], _headers} ->
        {gun, stream}

      {:gun_response, ^gun, ^stream, _fin, status, _headers} ->
        :ok = :gun.close(gun)
        raise "refused: #{status}"
    after
      @answer_ms -> raise "no answer to the handshake"
    end
  end

  # Gun wants to know who will speak them.
  defp protocols([]), do: %{}

  defp protocols([{_name, offered}]) do
    %{protocols: for(protocol <- String.split(offered, ", "), do: {protocol, :gun_ws_h})}
  end

  @doc "An open WebSocket, byte by byte; `headers` end with CRLF."
  @spec open_raw(:inet.port_number(), String.t(), Path.t()) :: :gen_tcp.socket()
  def open_raw(port, headers \\ "", path \\ "/socket/websocket") do
    {:ok, tcp} = :gen_tcp.connect('127.0.0.1', port, [:binary, active: false])

    :ok =
      :gen_tcp.send(tcp, """
      GET #{path}?vsn=2.0.0 HTTP/1.1\r
      host: localhost\r
      connection: upgrade\r
      upgrade: websocket\r
      sec-websocket-version: 13\r
      sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r
      #{headers}\r
      """)

    {:ok, "HTTP/1.1 101" <> _headers} = :gen_tcp.recv(tcp, 0, 5_000)
    tcp
  end

  @doc "Sends a short message of the protocol over a socket of `open_raw/3`."
  @spec push_raw(:gen_tcp.socket(), [term]) :: :ok
  def push_raw(tcp, message) do
    text = Koma.JSON.encode!(message)
    true = byte_size(text) < 126
    # A mask of zeros masks nothing.
    :ok = :gen_tcp.send(tcp, [<<0x81, 1::1, byte_size(text)::7, 0::32>>, text])
  end

  @doc "The close frame of a restart. (Cowlib, and so gun, takes it for a broken one.)"
  @spec restart_frame() :: binary
  def restart_frame, do: <<0x88, 9, 1012::16, "restart">>

  @doc "Sends a message of the protocol."
  @spec push({pid, reference}, [term]) :: :ok
  def push({gun, _stream}, message) do
    :gun.ws_send(gun, {:text, Koma.JSON.encode!(message)})
  end

  @doc "Sends a frame as it is."
  @spec send_frame({pid, reference}, term) :: :ok
  def send_frame({gun, _stream}, frame), do: :gun.ws_send(gun, frame)

  @doc "The next frame: a decoded message, `{:binary, bytes}` or `{:close, code, reason}`."
  @spec next({pid, reference}, timeout) :: term
  def next({gun, stream}, timeout \\ @answer_ms) do
    receive do
      {:gun_ws, ^gun, ^stream, {:text, text}} -> text |> Koma.JSON.decode() |> elem(1)
      {:gun_ws, ^gun, ^stream, other} -> other
      {:gun_down, ^gun, _protocol, reason, _killed, _unprocessed} -> {:down, reason}
    after
      timeout -> raise "nothing came in #{timeout} ms"
    end
  end

  @doc "The frames up to and with the first that fits."
  @spec read_until({pid, reference}, (term -> boolean)) :: [term]
  def read_until(socket, fits?) do
    frame = next(socket)
    if fits?.(frame), do: [frame], else: [frame | read_until(socket, fits?)]
  end

  @doc "Joins a topic and returns the response; raises when it is refused."
  @spec join!({pid, reference}, String.t(), map) :: map
  def join!(socket, topic, params \\ %{}) do
    push(socket, ["j" <> topic, "j" <> topic, topic, "phx_join", params])

    [_, _, ^topic, "phx_reply", %{"status" => "ok", "response" => response}] =
      reply(socket, topic)

    response
  end

  @doc "Pushes and returns the payload of the reply, whatever comes between."
  @spec ask({pid, reference}, String.t(), String.t(), term) :: map
  def ask(socket, topic, event, payload) do
    push(socket, ["j" <> topic, "a", topic, event, payload])
    [_, _, _, _, answer] = reply(socket, topic)
    answer
  end

  defp reply(socket, topic) do
    socket |> read_until(&match?([_, _, ^topic, "phx_reply", _], &1)) |> List.last()
  end

  @doc "One HTTP request: `{status, headers, body}`."
  @spec http(:inet.port_number(), String.t(), String.t(), [{String.t(), String.t()}], iodata) ::
          {pos_integer, %{String.t() => String.t()}, binary}
  def http(port, method, path, headers \\ [], body \\ "") do
    {:ok, gun} = :gun.open('127.0.0.1', port, %{retry: 0})
    # Without this gun takes an empty body for one that follows.
    length = {"content-length", body |> IO.iodata_length() |> Integer.to_string()}
    stream = :gun.request(gun, method, path, [length | headers], body)

    answer =
      case :gun.await(gun, stream, @answer_ms) do
        {:response, :fin, status, headers} ->
          {status, Map.new(headers), ""}

        {:response, :nofin, status, headers} ->
          {:ok, body} = :gun.await_body(gun, stream, @answer_ms)
          {status, Map.new(headers), body}
      end

    :ok = :gun.close(gun)
    answer
  end

  @doc "The decoded body of an answer."
  @spec json({pos_integer, map, binary}) :: term
  def json({_status, _headers, body}), do: body |> Koma.JSON.decode() |> elem(1)

  @doc "The processes of the joined topics."
  @spec channels() :: [pid]
  def channels do
    for {_, pid, _, _} <- DynamicSupervisor.which_children(Koma.Channel.Supervisor), do: pid
  end

  @doc "The processes of the open WebSockets."
  @spec sockets() :: [pid]
  def sockets, do: Koma.Channel.Sockets.all()
end
