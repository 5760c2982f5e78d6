defmodule Koma.Queue.Server do
  @moduledoc """
  The queue of one family. It admits jobs within the bounds, keeps their order, gives each job
  process a lease on a model node when its turn has come and a slot is free, and tells those that
  wait how far they have got.

  Whoever was promised a place, and every waiting job process, is monitored: a place never
  outlives its owner. Nothing here waits for a disk, so a refusal is quick whatever the load.
  """
  use GenServer

  alias Koma.{Error, Scheduler, Telemetry}
  alias Koma.Queue.{Cost, Line, News, Pauses, Rate, Refusals, Ticket}

  # Said while nothing was measured yet.
  @first_retry_ms 1_000

  @enforce_keys [:family, :line, :update_ms]
  defstruct [
    :family,
    :line,
    :update_ms,
    :timer,
    :depth,
    :gap_ms,
    cost: Cost.new(),
    rate: Rate.new(),
    news: News.new(),
    owners: %{},
    refs: %{},
    since: %{},
    refused: [],
    draining: false,
    paused: false
  ]

  @doc "Starts a queue. Options: `:family`, `:name`, `:update_ms`, and those of `Line.new/1`."
  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(options) do
    {name, options} = Keyword.pop!(options, :name)
    GenServer.start_link(__MODULE__, options, name: name)
  end

  @impl GenServer
  def init(options) do
    {family, options} = Keyword.pop!(options, :family)
    {update_ms, bounds} = Keyword.pop!(options, :update_ms)
    Scheduler.attach(family)
    state = %__MODULE__{family: family, line: Line.new(bounds), update_ms: update_ms}
    {:ok, %{state | gap_ms: update_ms, paused: Pauses.paused?(family)}}
  end

  @impl GenServer
  def handle_call({:admit, _ticket}, _from, %{draining: true} = state) do
    {:reply, {:error, Error.new("draining", "The server is shutting down")}, state}
  end

  def handle_call({:admit, %Ticket{} = ticket}, {pid, _tag}, state) do
    case Line.promise(state.line, ticket, Cost.estimate_ms(state.cost, ticket.work)) do
      {:ok, line} -> {:reply, :ok, own(admitted(%{state | line: line}), ticket.id, pid)}
      {:full, bound, jobs} -> refuse(state, ticket, overloaded(state, bound, jobs))
    end
  end

  # An earlier process of the job may still have its place: that it died is perhaps not known yet.
  def handle_call({:enqueue, %Ticket{id: id} = ticket}, {pid, _tag}, state) do
    state = state |> disown(id) |> own(id, pid) |> wait(id)
    line = Line.delete(state.line, id)
    line = Line.put(line, ticket, Cost.estimate_ms(state.cost, ticket.work))
    position = Line.last_position(line, ticket)
    state = update_later(%{state | line: line, news: told(state, id, position)})
    {:reply, place(state, position), state, {:continue, :pump}}
  end

  def handle_call({:leave, id}, _from, state), do: {:reply, :ok, leave(state, id)}

  def handle_call({:position, id}, _from, state) do
    {:reply, Line.position(state.line, id), state}
  end

  def handle_call(:depth, _from, state) do
    depth = %{
      jobs: Line.size(state.line),
      oldest_ms: oldest_ms(state),
      paused: state.paused,
      keys: Line.by_key(state.line)
    }

    {:reply, depth, state}
  end

  def handle_call({:pause, paused}, _from, %{paused: paused} = state), do: {:reply, :ok, state}

  def handle_call({:pause, paused}, _from, state) do
    case Pauses.put(state.family, paused) do
      :ok -> {:reply, :ok, pause(state, paused), {:continue, :pump}}
      {:error, reason} -> {:reply, {:error, not_kept(reason)}, state}
    end
  end

  def handle_call({:drain, draining}, _from, state) do
    {:reply, :ok, reopen(%{state | draining: draining}), {:continue, :pump}}
  end

  @impl GenServer
  def handle_cast({:measured, work, ms}, state) do
    {:noreply, %{state | cost: Cost.learn(state.cost, work, ms)}}
  end

  def handle_cast({:weigh, weights}, state) do
    {:noreply, reopen(%{state | line: Line.weigh(state.line, weights)})}
  end

  @impl GenServer
  def handle_continue(:pump, state), do: {:noreply, pump(state)}

  @impl GenServer
  def handle_info({:slots_free, family}, %{family: family} = state), do: {:noreply, pump(state)}

  def handle_info(:update, state) do
    {:noreply, %{state | timer: nil} |> update() |> update_later()}
  end

  def handle_info({:DOWN, ref, :process, _pid, _reason}, state) do
    case state.refs do
      %{^ref => id} -> {:noreply, leave(state, id)}
      _demonitored -> {:noreply, state}
    end
  end

  # --- turns

  defp pump(%{draining: true} = state), do: tell_depth(state)
  defp pump(%{paused: true} = state), do: tell_depth(state)

  defp pump(state) do
    state = state |> serve(:apart) |> serve(:alone) |> serve(:shared) |> tell_depth()

    if Line.size(state.line) == 0,
      do: %{state | rate: Rate.idle(state.rate)},
      else: %{state | rate: Rate.blocked(state.rate, now())}
  end

  defp serve(state, mode) do
    with {:ok, id} <- first(state.line, mode),
         {pid, _ref} = Map.fetch!(state.owners, id),
         {:ok, lease} <- Scheduler.claim(state.family, id, pid, mode) do
      send(pid, {:dispatch, lease})
      state = %{state | line: Line.serve(state.line, id), rate: Rate.departed(state.rate, now())}
      state |> reopen() |> forget(id) |> serve(mode)
    else
      _nobody_or_no_slot -> state
    end
  end

  defp first(line, :shared), do: Line.first(line)
  defp first(line, class), do: Line.first(line, class)

  # --- pauses

  # Everybody who waits is told, whether their place has changed or not.
  defp pause(state, paused) do
    about = %{model: state.family}

    if paused,
      do: Telemetry.execute([:koma, :queue, :paused], %{count: 1}, about),
      else: Telemetry.execute([:koma, :queue, :resumed], %{count: 1}, about)

    state = %{state | paused: paused, rate: Rate.idle(state.rate)}
    tell_all(state, Line.positions(state.line))
  end

  defp not_kept(reason) do
    Error.new("storage_full", "The pause cannot be kept in the data folder: #{reason}")
  end

  # --- news

  # The positions of a hundred thousand jobs take a while, in which nobody is admitted: so at most
  # a twentieth of the time goes into them.
  defp update(state) do
    began = now()
    due = News.due(state.news, Line.positions(state.line), state.update_ms, began)
    state = tell_all(state, due)
    %{state | gap_ms: max(state.update_ms, 20 * (now() - began))}
  end

  defp tell_all(state, places) do
    Enum.reduce(places, state, fn {id, position}, state -> tell(state, id, position) end)
  end

  defp tell(state, id, position) do
    {pid, _ref} = Map.fetch!(state.owners, id)
    send(pid, {:place, place(state, position)})
    %{state | news: told(state, id, position)}
  end

  # What the event `queued` tells; nobody knows how long a pause takes.
  defp place(%{paused: true}, position) do
    %{"position" => position, "wait_ms" => nil, "paused" => true}
  end

  defp place(state, position) do
    %{"position" => position, "wait_ms" => Rate.wait_ms(state.rate, position)}
  end

  defp told(state, id, position), do: News.told(state.news, id, position, now())

  defp update_later(%{timer: nil} = state) do
    if Line.size(state.line) == 0,
      do: state,
      else: %{state | timer: Process.send_after(self(), :update, state.gap_ms)}
  end

  defp update_later(state), do: state

  # --- refusals

  # A queue that is full for every job of a key need not be asked about the next one.
  defp refuse(state, %Ticket{key: key}, error) do
    if Line.closed?(state.line, key) do
      :ok = Refusals.put(state.family, key, error)
      {:reply, {:error, error}, %{state | refused: [key | state.refused]}}
    else
      {:reply, {:error, error}, state}
    end
  end

  defp reopen(%{refused: []} = state), do: state

  defp reopen(state) do
    :ok = Refusals.clear(state.family, state.refused)
    %{state | refused: []}
  end

  defp overloaded(state, bound, jobs) do
    retry = Rate.wait_ms(state.rate, jobs) || @first_retry_ms

    {message, bound} =
      case bound do
        :count -> {"The queue of #{state.family} is full", state.line.limit}
        :cost -> {"The queue of #{state.family} is full of work", state.line.budget_ms}
      end

    Error.new("overloaded", message, bound: bound, retry_after_ms: max(retry, 1))
  end

  # --- owners

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
    # A peer, or a model node, may be kept free for it.
    if Enum.any?([:apart, :alone], &(Line.first(state.line, &1) == {:ok, id})),
      do: Scheduler.withdraw(state.family)

    %{state | line: Line.delete(state.line, id)} |> reopen() |> forget(id) |> tell_depth()
  end

  defp oldest_ms(state) do
    case Line.oldest(state.line) do
      {:ok, id} -> now() - Map.fetch!(state.since, id)
      :empty -> 0
    end
  end

  defp wait(state, id), do: %{state | since: Map.put(state.since, id, now())}

  defp forget(state, id) do
    disown(%{state | news: News.forget(state.news, id), since: Map.delete(state.since, id)}, id)
  end

  # --- telemetry

  defp admitted(state) do
    Telemetry.execute([:koma, :queue, :admitted], %{count: 1}, %{model: state.family})
    state
  end

  defp tell_depth(state) do
    depth = Line.size(state.line)

    if depth != state.depth do
      Telemetry.execute([:koma, :queue, :depth], %{jobs: depth}, %{model: state.family})
    end

    %{state | depth: depth}
  end

  defp now, do: System.monotonic_time(:millisecond)
end
