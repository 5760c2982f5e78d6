defmodule Koma.Socket.Connection do
  @moduledoc """
  The rules of one WebSocket connection: which topics it has joined, what each message of the
  client leads to, and when it stops reading. `Koma.Socket.Handler` calls it from Cowboy's process.

  Decisions for the awkward cases:

    * A frame that cannot be read (not JSON, wrong shape, too large) is answered by a `phx_reply`
      with status `error` on the topic `phoenix` (or the one it names); the connection and its topics go on.
    * A push to a topic that is not joined is refused with `unknown_topic`; one with the
      `join_ref` of an earlier join is dropped, as nobody waits for its answer any more.
    * A join of a joined topic ends the earlier one: `phx_close` with the old `join_ref`.
    * A leave of a topic that is not joined is answered `ok`.
    * While the pushes that wait for their answers are too many or too large, nothing more is
      read from the client: TCP slows it down.
    * A client that says nothing for `idle_ms/0` is closed with 1001, upon which the official
      clients connect again; they send a heartbeat each 30 s.
    * When the server stops, each topic tells what it still has to tell, and then the connection is
      closed with 1012; clients that do not read are not waited for longer than `settle_ms/0`.
  """

  alias Koma.{Access, Channel, Error}
  alias Koma.Channel.{Join, Limits, Message, Router, Serializer}

  @max_frame_bytes Limits.max_frame_bytes()
  @max_topics Limits.max_topics()
  # A page has one, and so has each page that a guest may see.
  @max_topics_of_guest 8
  # What one client may have waiting here for answers.
  @max_waiting 256
  @max_waiting_bytes 16 * 1024 * 1024
  @idle_ms 60_000
  @settle_ms 1_000

  defmodule Topic do
    @moduledoc "One joined topic: its process, and what waits there for answers."

    @enforce_keys [:channel, :monitor, :join_ref]
    defstruct [:channel, :monitor, :join_ref, waiting: 0, waiting_bytes: 0]

    @type t :: %__MODULE__{
            channel: pid,
            monitor: reference,
            join_ref: Koma.Channel.Message.ref(),
            waiting: non_neg_integer,
            waiting_bytes: non_neg_integer
          }
  end

  defstruct caller: %Koma.Caller{},
            route: &Router.route/1,
            topics: %{},
            names: %{},
            waiting: 0,
            waiting_bytes: 0,
            reading: true,
            heard: true,
            awake: false,
            unsettled: nil

  @type t :: %__MODULE__{
          caller: Koma.Caller.t(),
          route: route,
          topics: %{String.t() => Topic.t()},
          names: %{(channel :: pid) => String.t()},
          waiting: non_neg_integer,
          waiting_bytes: non_neg_integer,
          reading: boolean,
          heard: boolean,
          awake: boolean,
          unsettled: MapSet.t(pid) | nil
        }
  @typedoc "Which channel serves a topic of this connection."
  @type route :: (String.t() -> {:ok, module, argument :: term} | {:error, Error.t()})
  @type command ::
          Serializer.frame() | {:close, 1000..4999, String.t()} | {:active, boolean}

  @doc "How long a client may be silent, in ms."
  @spec idle_ms() :: pos_integer
  def idle_ms, do: @idle_ms

  @doc "How long topics may take for what they still have to tell when the server stops, in ms."
  @spec settle_ms() :: pos_integer
  def settle_ms, do: @settle_ms

  @doc "A connection that has joined nothing yet."
  @spec new(Koma.Caller.t(), route) :: t
  def new(caller, route \\ &Router.route/1), do: %__MODULE__{caller: caller, route: route}

  @doc "A frame of the client."
  @spec frame(t, :text | :binary, binary) :: {[command], t}
  def frame(%__MODULE__{} = connection, type, bytes) do
    connection = heard(connection)

    with :ok <- check_size(bytes),
         {:ok, message} <- Serializer.decode(type, bytes) do
      connection |> message(message, byte_size(bytes)) |> throttle()
    else
      {:error, error} -> {[refuse(nil, error)], connection}
      {:error, error, message} -> {[refuse(message, error)], connection}
    end
  end

  @doc "The client gave a sign of life."
  @spec heard(t) :: t
  def heard(connection), do: %__MODULE__{connection | heard: true}

  @doc "A message of a channel, the end of one, or one of the connection's own."
  @spec info(t, term) :: {[command], t}
  def info(%__MODULE__{names: names} = connection, {:koma_channel, channel, what}) do
    case names do
      %{^channel => name} -> connection |> channel(name, what) |> throttle()
      # Sent before the channel was stopped: the client has left.
      _others -> {[], connection}
    end
  end

  def info(%__MODULE__{names: names} = connection, {:DOWN, _ref, :process, channel, _reason}) do
    case names do
      %{^channel => name} ->
        {topic, connection} = forget(connection, name)
        {commands, connection} = settled(connection)
        throttle({[Serializer.crash(topic.join_ref, name) | commands], connection})

      _others ->
        {[], connection}
    end
  end

  def info(%__MODULE__{heard: false} = connection, :koma_idle_check) do
    {[{:close, 1001, "idle"}], connection}
  end

  def info(%__MODULE__{} = connection, :koma_idle_check) do
    info(%__MODULE__{connection | heard: false}, :koma_access_changed)
  end

  def info(%__MODULE__{names: names} = connection, :koma_restart) do
    _timer = Process.send_after(self(), :koma_restart_now, @settle_ms)
    channels = Map.keys(names)
    Enum.each(channels, &Channel.settle/1)
    settled(%__MODULE__{connection | unsettled: MapSet.new(channels)})
  end

  def info(connection, :koma_access_changed) do
    caller = connection.caller

    cond do
      caller.key == nil or Access.valid?(caller) ->
        {[], connection}

      match?({:ok, _other_roles}, Access.current(caller)) ->
        {[{:close, 1012, "restart"}], connection}

      true ->
        {[{:close, 1008, "unauthorized"}], connection}
    end
  end

  def info(connection, :koma_restart_now), do: {[{:close, 1012, "restart"}], connection}

  def info(connection, _message), do: {[], connection}

  defp check_size(bytes) when byte_size(bytes) <= @max_frame_bytes, do: :ok

  defp check_size(bytes) do
    message = "The frame has #{byte_size(bytes)} bytes; at most #{@max_frame_bytes} are taken."
    details = [field: "frame", value: byte_size(bytes), bound: @max_frame_bytes]
    {:error, Error.new("too_large", message, details)}
  end

  defp message(connection, %Message{topic: "phoenix", event: "heartbeat"} = message, _size) do
    {[Serializer.reply(nil, message.ref, "phoenix", :ok, %{})], connection}
  end

  defp message(connection, %Message{event: "phx_join"} = message, _size) do
    with :ok <- Access.admit(connection.caller),
         :ok <- check_room(connection, message.topic),
         {:ok, module, argument} <- connection.route.(message.topic) do
      {closed, connection} = leave(connection, message.topic)
      {answers, connection} = join(connection, message, module, argument)
      {closed ++ answers, connection}
    else
      {:error, error} -> {[refuse(message, error)], connection}
    end
  end

  defp message(connection, %Message{event: "phx_leave"} = message, _size) do
    {closed, connection} =
      if stale?(connection, message), do: {[], connection}, else: leave(connection, message.topic)

    {[Serializer.reply(message.join_ref, message.ref, message.topic, :ok, %{}) | closed],
     connection}
  end

  defp message(connection, %Message{topic: name} = message, size) do
    cond do
      stale?(connection, message) -> {[], connection}
      is_map_key(connection.topics, name) -> push(connection, message, size)
      true -> {[refuse(message, not_joined(name))], connection}
    end
  end

  defp push(connection, message, size) do
    case Access.admit(connection.caller) do
      :ok -> {[], forward(connection, message, size)}
      {:error, error} -> {[refuse(message, error)], connection}
    end
  end

  defp not_joined(name) do
    message = "This topic is not joined on this connection."
    Error.new("unknown_topic", message, field: "topic", value: name)
  end

  defp check_room(%__MODULE__{topics: topics, caller: caller}, name) do
    most = if Access.known?(caller), do: @max_topics, else: @max_topics_of_guest

    if map_size(topics) < most or is_map_key(topics, name) do
      :ok
    else
      message = "One connection joins at most #{most} topics; leave some first."
      {:error, Error.new("out_of_bounds", message, field: "topic", bound: most)}
    end
  end

  defp join(connection, message, module, argument) do
    case Access.hold(connection.caller, :topics) do
      :ok -> {[], enter(connection, message, module, argument)}
      {:error, error} -> {[refuse(message, error)], connection}
    end
  end

  defp enter(connection, message, module, argument) do
    {:ok, channel} =
      Channel.start(%Join{
        socket: self(),
        caller: connection.caller,
        module: module,
        argument: argument,
        message: message
      })

    join_ref = message.join_ref || message.ref
    topic = %Topic{channel: channel, monitor: Process.monitor(channel), join_ref: join_ref}
    put(connection, message.topic, topic)
  end

  defp leave(connection, name) do
    case connection.topics do
      %{^name => topic} ->
        :ok = Channel.stop(topic.channel)
        {_topic, connection} = forget(connection, name)
        {[Serializer.close(topic.join_ref, name)], connection}

      _others ->
        {[], connection}
    end
  end

  defp put(connection, name, topic) do
    %__MODULE__{
      connection
      | topics: Map.put(connection.topics, name, topic),
        names: Map.put(connection.names, topic.channel, name)
    }
  end

  defp forget(connection, name) do
    {topic, topics} = Map.pop!(connection.topics, name)
    true = Process.demonitor(topic.monitor, [:flush])
    :ok = Access.release(connection.caller, :topics)
    names = Map.delete(connection.names, topic.channel)
    connection = waiting(connection, -topic.waiting, -topic.waiting_bytes)
    unsettled = connection.unsettled && MapSet.delete(connection.unsettled, topic.channel)
    {topic, %__MODULE__{connection | topics: topics, names: names, unsettled: unsettled}}
  end

  defp forward(connection, %Message{topic: name} = message, size) do
    topic = connection.topics[name]
    :ok = Channel.push(topic.channel, message, size)
    connection |> put(name, waiting(topic, 1, size)) |> waiting(1, size)
  end

  defp channel(connection, _name, {:joined, frame}), do: {[frame], connection}

  defp channel(connection, name, {:refused, frame}) do
    {_topic, connection} = forget(connection, name)
    {[frame], connection}
  end

  defp channel(connection, name, {:reply, frame, size}) do
    topic = waiting(connection.topics[name], -1, -size)
    {[frame], connection |> put(name, topic) |> waiting(-1, -size)}
  end

  defp channel(connection, name, {:push, frames}) do
    :ok = Channel.written(connection.topics[name].channel, length(frames))
    {frames, connection}
  end

  defp channel(%__MODULE__{unsettled: unsettled} = connection, name, :settled) do
    unsettled = MapSet.delete(unsettled, connection.topics[name].channel)
    settled(%__MODULE__{connection | unsettled: unsettled})
  end

  # Closes for a restart once every topic has told what it had to tell.
  defp settled(%__MODULE__{unsettled: %MapSet{} = unsettled} = connection) do
    if MapSet.size(unsettled) == 0,
      do: {[{:close, 1012, "restart"}], connection},
      else: {[], connection}
  end

  defp settled(connection), do: {[], connection}

  # Counts what waits for answers, of one topic or of the connection.
  defp waiting(%{waiting: count, waiting_bytes: bytes} = counted, more, more_bytes) do
    %{counted | waiting: count + more, waiting_bytes: bytes + more_bytes}
  end

  # Whether to read on from the client, where that has changed.
  defp throttle({commands, %__MODULE__{reading: reading} = connection}) do
    case connection.waiting < @max_waiting and connection.waiting_bytes < @max_waiting_bytes do
      ^reading -> {commands, connection}
      now -> {commands ++ [{:active, now}], %__MODULE__{connection | reading: now}}
    end
  end

  defp stale?(%__MODULE__{topics: topics}, %Message{join_ref: join_ref, topic: name}) do
    case topics do
      %{^name => %Topic{join_ref: current}} -> join_ref != nil and join_ref != current
      _others -> false
    end
  end

  defp refuse(nil, error), do: refuse(nil, nil, "phoenix", error)
  defp refuse(%Message{} = m, error), do: refuse(m.join_ref, m.ref, m.topic, error)

  defp refuse(join_ref, ref, topic, error) do
    Serializer.reply(join_ref, ref, topic, :error, Channel.refusal(error))
  end
end
