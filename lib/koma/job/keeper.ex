defmodule Koma.Job.Keeper do
  @moduledoc """
  Keeps the promise that an accepted job is never lost on this peer: at start it gives a process
  to every stored job that has not ended, and when the process of a live job dies of an error in
  the gateway, it starts it again. A job whose process keeps dying fails as `internal`.
  """
  use GenServer
  require Logger

  alias Koma.{Cluster, Error, Options, Queue, Store, Telemetry}
  alias Koma.Job.{Attempt, Followers, Members, Processes, Record, Server}

  @max_crashes 3

  @doc "Starts the keeper of this peer."
  @spec start_link(term) :: GenServer.on_start()
  def start_link(_options), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "Watches the process of a job that was just started."
  @spec watch(String.t(), pid) :: :ok
  def watch(id, pid), do: GenServer.cast(__MODULE__, {:watch, id, pid})

  @doc "Gives a process to jobs that were adopted from other gateways."
  @spec adopt([Record.t()]) :: :ok
  def adopt(records), do: GenServer.cast(__MODULE__, {:adopt, Enum.map(records, & &1.id)})

  @doc "Returns once the job, unless it has ended, has a process."
  @spec ensure(String.t()) :: :ok
  def ensure(id), do: GenServer.call(__MODULE__, {:ensure, id}, :infinity)

  @impl GenServer
  def init(nil), do: {:ok, %{jobs: %{}, crashes: %{}}, {:continue, :recover}}

  @impl GenServer
  def handle_continue(:recover, state) do
    unfinished = Store.Jobs.unfinished()
    if unfinished != [], do: Logger.info("#{length(unfinished)} stored jobs go on")
    tell_unserved(unfinished)
    {:noreply, Enum.reduce(unfinished, state, &start/2)}
  end

  # They wait, and nothing else would say so.
  defp tell_unserved(unfinished) do
    served = MapSet.new(Options.get().models, & &1.family)
    waiting = unfinished |> Enum.map(& &1.model) |> Enum.reject(&MapSet.member?(served, &1))

    for {family, jobs} <- Enum.frequencies(waiting), not Cluster.on?() do
      Logger.warning("#{jobs} stored jobs of #{family} wait: no model node of it is configured")
    end

    :ok
  end

  @impl GenServer
  def handle_cast({:watch, id, pid}, state), do: {:noreply, monitor(state, id, pid)}

  # Those that were there when the keeper started have their process, or have ended since.
  def handle_cast({:adopt, ids}, state), do: {:noreply, start_missing(ids, state)}

  @impl GenServer
  def handle_call({:ensure, id}, _from, state), do: {:reply, :ok, start_missing([id], state)}

  @impl GenServer
  def handle_info({:DOWN, ref, :process, _pid, reason}, state) do
    {id, jobs} = Map.pop!(state.jobs, ref)
    {:noreply, ended(%{state | jobs: jobs}, id, reason)}
  end

  # A job that it gave up belongs to another gateway by now.
  def handle_info({:fenced, _id}, state), do: {:noreply, state}

  defp ended(state, id, reason) do
    with {:ok, record} <- Store.Jobs.latest(id),
         false <- Record.ended?(record) do
      Logger.error("the process of #{id} died: #{inspect(reason, limit: 20)}", job: id)
      crashes = Map.update(state.crashes, id, 1, &(&1 + 1))
      state = %{state | crashes: crashes}
      # Who starts one watches it.
      if Processes.alive(id), do: state, else: start(record, state)
    else
      _ended_or_forgotten -> %{state | crashes: Map.delete(state.crashes, id)}
    end
  end

  defp start_missing(ids, state) do
    records =
      for id <- ids,
          {:ok, record} <- [Store.Jobs.latest(id)],
          not Record.ended?(record) and Processes.alive(id) == nil,
          do: record

    Enum.reduce(records, state, &start/2)
  end

  defp start(%Record{} = record, state) do
    if Map.get(state.crashes, record.id, 0) >= @max_crashes do
      give_up(record, state, crashed())
    else
      :ok = Queue.ensure(record.model)
      resume(record, state)
    end
  end

  defp crashed do
    Error.new("internal", "The job's process in the gateway died #{@max_crashes} times")
  end

  defp resume(record, state) do
    pid = Processes.start(record, nil)
    state = monitor(state, record.id, pid)

    await_queued(pid, record.id)
    state
  end

  # It has joined its queue when it answers: the stored order stays the order of the queue.
  defp await_queued(pid, id) do
    _job = Server.get(pid, id)
    :ok
  catch
    :exit, _its_monitor_tells -> :ok
  end

  # Without a process: the events are written here.
  defp give_up(record, state, error) do
    Attempt.clean_all(record, max(record.attempt, Followers.attempts(record.id)))
    event = Record.event(record, "failed", Error.to_map(error))
    Members.store([{Record.apply(record, event), event}])
    about = record |> Map.take([:id, :task, :model]) |> Map.put(:state, "failed")
    measured = %{duration_ms: event.at - record.created_at}
    Telemetry.execute([:koma, :job, :finished], measured, Map.put(about, :code, error.code))
    %{state | crashes: Map.delete(state.crashes, record.id)}
  end

  defp monitor(state, id, pid), do: put_in(state.jobs[Process.monitor(pid)], id)
end
