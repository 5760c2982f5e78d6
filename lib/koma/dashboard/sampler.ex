defmodule Koma.Dashboard.Sampler do
  @moduledoc """
  Reads what dashboards show, five times a second and only while somebody looks. Each part is read,
  rendered and encoded once, however many look at it; to whom it is shown gets
  `{:koma_parts, %{part => Koma.Live.Panel}}` with those that have changed.
  """
  use GenServer

  require Logger

  alias Koma.Live.Panel

  @period_ms 200
  # What is being started again is a matter of a moment.
  @unavailable {:safe, ~s(<p class="quiet">This part of the server is starting again.</p>)}

  @typedoc "A module with the behaviour `Koma.Dashboard.Part`, and its argument."
  @type part :: {module, argument :: term}

  defstruct watchers: %{}, shown: %{}, timer: nil

  @doc "Starts the sampler; it does nothing until somebody looks."
  @spec start_link(term) :: GenServer.on_start()
  def start_link(_options), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "How long between two looks, in ms."
  @spec period_ms() :: pos_integer
  def period_ms, do: @period_ms

  @doc "The calling process looks at these parts from now on, and at no others; returns them as they are."
  @spec watch([part]) :: %{part => Panel.t()}
  def watch(parts), do: GenServer.call(__MODULE__, {:watch, parts}, :infinity)

  @doc "The parts as they are now, for somebody who looks once."
  @spec look([part]) :: %{part => Panel.t()}
  def look(parts), do: GenServer.call(__MODULE__, {:look, parts}, :infinity)

  @impl GenServer
  def init(nil), do: {:ok, %__MODULE__{}}

  @impl GenServer
  def handle_call({:watch, parts}, {pid, _tag}, state) do
    ref =
      with %{^pid => {ref, _parts}} <- state.watchers, do: ref, else: (_ -> Process.monitor(pid))

    state = %{state | watchers: Map.put(state.watchers, pid, {ref, MapSet.new(parts)})}
    state = state |> forget_unseen() |> show(parts)
    {:reply, panels(state, parts), tick_later(state)}
  end

  def handle_call({:look, parts}, _from, state) do
    {:reply, state |> show(parts) |> panels(parts), state}
  end

  @impl GenServer
  def handle_info(:tick, state) do
    state = %{state | timer: nil}
    parts = seen(state)
    shown = Map.new(parts, fn part -> {part, sample(part, state.shown[part])} end)
    changed = for part <- parts, shown[part].panel != state.shown[part].panel, do: part
    tell(state.watchers, Map.new(changed, &{&1, shown[&1].panel}))
    {:noreply, tick_later(%{state | shown: shown})}
  end

  def handle_info({:DOWN, _ref, :process, pid, _reason}, state) do
    {:noreply, forget_unseen(%{state | watchers: Map.delete(state.watchers, pid)})}
  end

  defp show(state, parts) do
    new =
      for part <- parts,
          not is_map_key(state.shown, part),
          into: %{},
          do: {part, sample(part, nil)}

    %{state | shown: Map.merge(state.shown, new)}
  end

  defp panels(state, parts), do: Map.new(parts, &{&1, state.shown[&1].panel})

  defp sample({module, argument}, before) do
    read = module.read(argument)

    if before != nil and before.read == {:ok, read},
      do: before,
      else: %{read: {:ok, read}, panel: read |> module.html() |> Panel.new()}
  catch
    # Its process is gone, or its table is, or it is too busy to answer.
    :exit, _reason -> unavailable()
    :error, %ArgumentError{} -> unavailable()
    :error, :badarg -> unavailable()
  end

  defp unavailable, do: %{read: :unavailable, panel: Panel.new(@unavailable)}

  defp tell(_watchers, changed) when changed == %{}, do: :ok

  defp tell(watchers, changed) do
    for {pid, {_ref, parts}} <- watchers,
        news = Map.take(changed, MapSet.to_list(parts)),
        news != %{},
        do: send(pid, {:koma_parts, news})

    :ok
  end

  defp seen(state) do
    state.watchers
    |> Enum.reduce(MapSet.new(), fn {_pid, {_ref, parts}}, seen -> MapSet.union(seen, parts) end)
    |> MapSet.to_list()
  end

  defp forget_unseen(state), do: %{state | shown: Map.take(state.shown, seen(state))}

  defp tick_later(%{watchers: watchers} = state) when watchers == %{}, do: state

  defp tick_later(%{timer: nil} = state),
    do: %{state | timer: Process.send_after(self(), :tick, @period_ms)}

  defp tick_later(state), do: state
end
