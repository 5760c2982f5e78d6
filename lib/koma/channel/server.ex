defmodule Koma.Channel.Server do
  @moduledoc """
  The process of one joined topic: calls the channel's module, puts its answers and pushes into
  frames, and sends no faster than the client reads (`Koma.Channel.Outbox`).
  """

  use GenServer, restart: :temporary

  alias Koma.Channel
  alias Koma.Channel.{Join, Outbox, Preview, Serializer}
  alias Koma.Telemetry

  # Most topics wait most of the time; a hibernated process is some hundred words.
  @hibernate_after_ms 200

  defstruct [
    :socket,
    :topic,
    :join_ref,
    :prefix,
    :module,
    :state,
    outbox: %Outbox{},
    settling: false
  ]

  @type t :: %__MODULE__{
          socket: pid,
          topic: String.t(),
          join_ref: Koma.Channel.Message.ref(),
          prefix: binary,
          module: module,
          state: term,
          outbox: Outbox.t(),
          settling: boolean
        }

  @doc false
  @spec start_link(Join.t()) :: GenServer.on_start()
  def start_link(%Join{} = join) do
    GenServer.start_link(__MODULE__, join, hibernate_after: @hibernate_after_ms)
  end

  @impl true
  def init(%Join{socket: socket, message: message, module: module} = join) do
    _ref = Process.monitor(socket)
    join_ref = message.join_ref || message.ref

    state = %__MODULE__{
      socket: socket,
      topic: message.topic,
      join_ref: join_ref,
      prefix: Serializer.prefix(join_ref, message.topic),
      module: module
    }

    {:ok, state, {:continue, join}}
  end

  @impl true
  def handle_continue(%Join{message: message} = join, %__MODULE__{} = state) do
    # What a topic asks for is wanted as long as the socket is there.
    caller = %{join.caller | process: join.socket}

    case state.module.join(join.argument, message.payload, caller) do
      {:ok, response, pushes, inner} ->
        count(state, [:koma, :channel, :joined], %{})
        tell(state, {:joined, reply(state, message.ref, :ok, response)})
        {:noreply, push(%__MODULE__{state | state: inner}, pushes)}

      {:error, error} ->
        {:stop, :normal, refuse(state, message, error, Channel.refusal(error))}

      {:error, error, in_other_words} ->
        {:stop, :normal, refuse(state, message, error, in_other_words)}
    end
  end

  @impl true
  def handle_info({:koma_push, message, size}, %__MODULE__{} = state) do
    {:noreply, Telemetry.span(:channel, fn -> answer(state, message, size) end)}
  end

  def handle_info({:koma_written, count}, %__MODULE__{} = state) do
    {:noreply, flush(%__MODULE__{state | outbox: Outbox.written(state.outbox, count)})}
  end

  def handle_info(:koma_settle, state), do: {:noreply, flush(%__MODULE__{state | settling: true})}

  def handle_info({:DOWN, _ref, :process, socket, _reason}, %__MODULE__{socket: socket} = state) do
    {:stop, :normal, state}
  end

  def handle_info(message, %__MODULE__{} = state) do
    {pushes, inner} = state.module.handle_info(message, state.state)
    {:noreply, push(%__MODULE__{state | state: inner}, pushes)}
  end

  defp refuse(state, message, error, response) do
    count(state, [:koma, :channel, :refused], %{code: error.code})
    tell(state, {:refused, reply(state, message.ref, :error, response)})
    state
  end

  defp answer(state, message, size) do
    {status, response, pushes, inner} =
      case state.module.handle_in(message.event, message.payload, state.state) do
        {:ok, response, inner} -> {:ok, response, [], inner}
        {:ok, response, pushes, inner} -> {:ok, response, pushes, inner}
        {:error, error, inner} -> {:error, Channel.refusal(error), [], inner}
      end

    state = push(%__MODULE__{state | state: inner}, pushes)
    tell(state, {:reply, reply(state, message.ref, status, response), size})
    state
  end

  defp push(state, pushes) do
    flush(%__MODULE__{state | outbox: Enum.reduce(pushes, state.outbox, &Outbox.put(&2, &1))})
  end

  defp flush(%__MODULE__{} = state) do
    {ready, outbox} = Outbox.take(state.outbox)
    if ready != [], do: tell(state, {:push, Enum.map(ready, &frame(state, &1))})
    settled(%__MODULE__{state | outbox: outbox})
  end

  defp settled(%__MODULE__{settling: true, outbox: outbox} = state) do
    if Outbox.settled?(outbox), do: tell(state, :settled)
    %__MODULE__{state | settling: not Outbox.settled?(outbox)}
  end

  defp settled(state), do: state

  defp frame(state, {:event, {name, json}}) do
    Serializer.push(state.prefix, name, json)
  end

  defp frame(state, {:preview, preview}) do
    case Preview.encode(preview) do
      {:json, json} -> Serializer.push(state.prefix, "preview", json)
      {:binary, data} -> Serializer.push_binary(state.join_ref, state.topic, "preview", data)
    end
  end

  defp reply(state, ref, status, response) do
    Serializer.reply(state.join_ref, ref, state.topic, status, response)
  end

  # The rest of the topic is an id, or whatever a client sent.
  defp count(state, event, metadata) do
    [kind | _id] = String.split(state.topic, ":", parts: 2)
    Telemetry.execute(event, %{count: 1}, Map.put(metadata, :topic, kind))
  end

  defp tell(state, what), do: send(state.socket, {:koma_channel, self(), what})
end
