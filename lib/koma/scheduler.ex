defmodule Koma.Scheduler do
  @moduledoc """
  Gives the slots of the ready model nodes to the queues.

  Model nodes say when they are up, when they are down and when a slot is free; the scheduler
  tells the family's queue, which claims slots for the jobs whose turn it is. A slot is freed by
  its model node alone, so it is never given away while Python still works on the old job; for a
  job process that dies, the model node is told to stop that job.
  """
  use GenServer

  alias Koma.{ModelNode, Telemetry}
  alias Koma.Scheduler.{Lease, Placement}

  @type mode :: :shared | :alone

  defstruct placement: Placement.new(), queues: %{}, holders: %{}, watched: %{}, idle: []

  @doc "Starts the scheduler of this peer."
  @spec start_link(term) :: GenServer.on_start()
  def start_link(_options), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "The calling queue gets `{:slots_free, family}` whenever it may claim again."
  @spec attach(String.t()) :: :ok
  def attach(family), do: GenServer.call(__MODULE__, {:attach, family})

  @doc """
  Takes a slot for a job, on behalf of its process. An `:alone` job gets a whole model node; while
  none is empty, one is kept free of new jobs for it until it is claimed or withdrawn.
  """
  @spec claim(String.t(), String.t(), pid, mode) :: {:ok, Lease.t()} | :none
  def claim(family, id, job, mode) do
    Telemetry.span(:scheduler, fn ->
      GenServer.call(__MODULE__, {:claim, family, id, job, mode}, :infinity)
    end)
  end

  @doc "The job of this family that waits to run alone waits no longer."
  @spec withdraw(String.t()) :: :ok
  def withdraw(family), do: GenServer.cast(__MODULE__, {:withdraw, family})

  @doc "Gives a lease back that was never used."
  @spec release(Lease.t(), String.t()) :: :ok
  def release(%Lease{} = lease, id), do: ModelNode.cancel(lease.pid, id)

  @doc "How many jobs hold a slot."
  @spec running() :: non_neg_integer
  def running, do: GenServer.call(__MODULE__, :running)

  @doc "Waits until no job holds a slot; `:timeout` when that takes too long."
  @spec await_idle(timeout_ms :: non_neg_integer) :: :ok | :timeout
  def await_idle(timeout_ms) do
    GenServer.call(__MODULE__, :await_idle, timeout_ms)
  catch
    :exit, {:timeout, _call} -> :timeout
  end

  @impl GenServer
  def init(nil) do
    ModelNode.announce_all()
    {:ok, %__MODULE__{}}
  end

  @impl GenServer
  def handle_call({:attach, family}, {pid, _tag}, state) do
    send(pid, {:slots_free, family})
    # What the queue before this one waited for.
    state = unreserve(state, family)
    {:reply, :ok, %{state | queues: Map.put(state.queues, family, pid)}}
  end

  def handle_call({:claim, family, id, job, mode}, _from, state) do
    case take(state.placement, mode, family, id) do
      {:ok, name, pid, placement} ->
        holders = Map.put(state.holders, Process.monitor(job), {name, id})
        lease = %Lease{node: name, pid: pid}
        {:reply, {:ok, lease}, %{state | placement: placement, holders: holders}}

      {:none, placement} ->
        {:reply, :none, %{state | placement: placement}}

      :none ->
        {:reply, :none, state}
    end
  end

  def handle_call(:running, _from, state) do
    {:reply, Placement.running(state.placement), state}
  end

  def handle_call(:await_idle, from, state) do
    {:noreply, answer_idle(%{state | idle: [from | state.idle]})}
  end

  @impl GenServer
  def handle_cast({:node_up, name, pid, family, slots, jobs}, state) do
    placement = Placement.up(state.placement, name, pid, family, slots, jobs)
    watched = Map.put_new_lazy(state.watched, name, fn -> Process.monitor(pid) end)
    {:noreply, tell(%{state | placement: placement, watched: watched}, family)}
  end

  def handle_cast({:withdraw, family}, state) do
    {:noreply, state |> unreserve(family) |> tell(family)}
  end

  def handle_cast({:node_closed, name}, state) do
    state = %{state | placement: Placement.close(state.placement, name)}
    # A job that waits to run alone may have lost the model node that was kept for it.
    with %{^name => node} <- state.placement.nodes, do: tell(state, node.family)
    {:noreply, state}
  end

  def handle_cast({:node_down, name}, state), do: {:noreply, lose(state, name)}

  def handle_cast({:slot_free, name, id}, state) do
    state = %{state | placement: Placement.free(state.placement, name, id)}
    state = forget_holders(state, fn held -> held == {name, id} end)

    case state.placement.nodes do
      %{^name => node} -> {:noreply, state |> tell(node.family) |> answer_idle()}
      _gone -> {:noreply, state}
    end
  end

  @impl GenServer
  def handle_info({:DOWN, ref, :process, pid, _reason}, state) do
    case Map.pop(state.holders, ref) do
      {nil, _holders} -> {:noreply, node_process_down(state, ref, pid)}
      {held, holders} -> {:noreply, stop_job(%{state | holders: holders}, held)}
    end
  end

  defp take(placement, :shared, family, id), do: Placement.take(placement, family, id)
  defp take(placement, :alone, family, id), do: Placement.take_alone(placement, family, id)

  defp unreserve(state, family) do
    %{state | placement: Placement.unreserve(state.placement, family)}
  end

  defp stop_job(state, {name, id}) do
    with %{^name => node} <- state.placement.nodes, do: ModelNode.cancel(node.pid, id)
    state
  end

  defp node_process_down(state, ref, _pid) do
    case Enum.find(state.watched, fn {_name, watched} -> watched == ref end) do
      {name, ^ref} -> lose(state, name)
      nil -> state
    end
  end

  defp lose(state, name) do
    {ref, watched} = Map.pop(state.watched, name)
    if ref, do: Process.demonitor(ref, [:flush])

    family = with %{^name => node} <- state.placement.nodes, do: node.family, else: (_ -> nil)

    %{state | placement: Placement.down(state.placement, name), watched: watched}
    |> forget_holders(fn {node, _id} -> node == name end)
    |> tell(family)
    |> answer_idle()
  end

  defp forget_holders(state, gone?) do
    gone = for {ref, held} <- state.holders, gone?.(held), do: ref
    for ref <- gone, do: Process.demonitor(ref, [:flush])
    %{state | holders: Map.drop(state.holders, gone)}
  end

  defp tell(state, family) do
    with %{^family => queue} <- state.queues, do: send(queue, {:slots_free, family})
    state
  end

  defp answer_idle(state) do
    if state.idle != [] and Placement.running(state.placement) == 0 do
      Enum.each(state.idle, &GenServer.reply(&1, :ok))
      %{state | idle: []}
    else
      state
    end
  end
end
