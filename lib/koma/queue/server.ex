defmodule Koma.Queue.Server do
  @moduledoc """
  The queue of one family. It admits jobs within the bound, keeps their order, and gives each
  job process a lease on a model node when its turn has come and a slot is free.

  Whoever was promised a place, and every waiting job process, is monitored: a place never
  outlives its owner.
  """
  use GenServer

  alias Koma.{Error, Scheduler, Telemetry}
  alias Koma.Queue.{Line, Rate}

  # Said while nothing was measured yet.
  @first_retry_ms 1_000

  defstruct [:family, :line, rate: Rate.new(), owners: %{}, refs: %{}, draining: false]

  @doc "Starts a queue. Options: `:family`, `:limit`, `:name`."
  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(options) do
    GenServer.start_link(__MODULE__, options, name: Keyword.fetch!(options, :name))
  end

  @impl GenServer
  def init(options) do
    family = Keyword.fetch!(options, :family)
    Scheduler.attach(family)
    {:ok, %__MODULE__{family: family, line: Line.new(Keyword.fetch!(options, :limit))}}
  end

  @impl GenServer
  def handle_call({:admit, _id}, _from, %{draining: true} = state) do
    {:reply, {:error, Error.new("draining", "The server is shutting down")}, state}
  end

  def handle_call({:admit, id}, {pid, _tag}, state) do
    case Line.promise(state.line, id) do
      {:ok, line} -> {:reply, :ok, own(%{state | line: line}, id, pid)}
      :full -> {:reply, {:error, overloaded(state)}, state}
    end
  end

  def handle_call({:enqueue, id, class}, {pid, _tag}, state) do
    state = state |> disown(id) |> own(id, pid)
    line = Line.put(state.line, id, class)
    position = Line.position(line, id)

    {:reply, {position, Rate.wait_ms(state.rate, position)}, %{state | line: line},
     {:continue, :pump}}
  end

  def handle_call({:leave, id}, _from, state), do: {:reply, :ok, leave(state, id)}

  def handle_call({:position, id}, _from, state) do
    {:reply, Line.position(state.line, id), state}
  end

  def handle_call({:drain, draining}, _from, state) do
    {:reply, :ok, %{state | draining: draining}, {:continue, :pump}}
  end

  @impl GenServer
  def handle_continue(:pump, state), do: {:noreply, pump(state)}

  @impl GenServer
  def handle_info({:slots_free, family}, %{family: family} = state), do: {:noreply, pump(state)}

  def handle_info({:DOWN, ref, :process, _pid, _reason}, state) do
    case state.refs do
      %{^ref => id} -> {:noreply, leave(state, id)}
      _demonitored -> {:noreply, state}
    end
  end

  defp pump(%{draining: true} = state), do: state

  defp pump(state) do
    with {:ok, id} <- Line.first(state.line),
         {pid, _ref} = Map.fetch!(state.owners, id),
         {:ok, lease} <- Scheduler.claim(state.family, id, pid) do
      send(pid, {:dispatch, lease})
      pump(%{leave(state, id) | rate: Rate.departed(state.rate, now())})
    else
      :empty -> %{state | rate: Rate.idle(state.rate)}
      :none -> %{state | rate: Rate.blocked(state.rate, now())}
    end
  end

  defp overloaded(state) do
    retry = Rate.wait_ms(state.rate, 1) || @first_retry_ms

    Telemetry.execute([:koma, :queue, :refused], %{count: 1}, %{
      model: state.family,
      code: "overloaded"
    })

    Error.new("overloaded", "The queue of #{state.family} is full",
      bound: state.line.limit,
      retry_after_ms: max(retry, 1)
    )
  end

  defp own(state, id, pid) do
    ref = Process.monitor(pid)
    %{state | owners: Map.put(state.owners, id, {pid, ref}), refs: Map.put(state.refs, ref, id)}
  end

  defp disown(state, id) do
    case Map.pop(state.owners, id) do
      {nil, _owners} ->
        state

      {{_pid, ref}, owners} ->
        Process.demonitor(ref, [:flush])
        %{state | owners: owners, refs: Map.delete(state.refs, ref)}
    end
  end

  defp leave(state, id) do
    state = disown(state, id)
    %{state | line: Line.delete(state.line, id)}
  end

  defp now, do: System.monotonic_time(:millisecond)
end
