defmodule Koma.Scheduler do
  @moduledoc """
  Gives the slots of the ready model nodes to the queues.

  Model nodes say when they are up, when they are down and when a slot is free; the scheduler
  tells the family's queue, which claims slots for the jobs whose turn it is. A slot is freed by
  its model node alone, so it is never given away while Python still works on the old job; for a
  job process that dies, the model node is told to stop that job.
  """
  use GenServer

  alias Koma.{Cluster, ModelNode, Telemetry}
  alias Koma.Scheduler.{Lease, Placement}

  @type mode :: :shared | :alone | :apart

  # `guests`: by model node and job, the peer that placed the job here, which is told when its slot is
  # free. `patient`: guests that wait until their model node is empty.
  defstruct placement: Placement.new(),
            queues: %{},
            holders: %{},
            watched: %{},
            idle: [],
            guests: %{},
            patient: [],
            since: %{},
            cluster: false,
            open: true

  @doc "Starts the scheduler of this peer."
  @spec start_link(term) :: GenServer.on_start()
  def start_link(_options), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "The calling queue gets `{:slots_free, family}` whenever it may claim again."
  @spec attach(String.t()) :: :ok
  def attach(family), do: GenServer.call(__MODULE__, {:attach, family})

  @doc """
  Takes a slot for a job, on behalf of its process. An `:alone` job gets a whole model node, an `:apart`
  one a whole peer; while none is empty, one is kept free of new jobs for it until it is claimed or
  withdrawn.
  """
  @spec claim(String.t(), String.t(), pid, mode) :: {:ok, Lease.t()} | :none
  def claim(family, id, job, mode) do
    Telemetry.span(:scheduler, fn ->
      GenServer.call(__MODULE__, {:claim, family, id, job, mode}, :infinity)
    end)
  end

  @doc "The job of this family that waits to run alone, or apart, waits no longer."
  @spec withdraw(String.t()) :: :ok
  def withdraw(family), do: GenServer.cast(__MODULE__, {:withdraw, family})

  @doc "Gives a lease back that was never used."
  @spec release(Lease.t(), String.t()) :: :ok
  def release(%Lease{peer: nil} = lease, id), do: ModelNode.cancel(lease.pid, id)
  def release(%Lease{node: name}, id), do: GenServer.cast(__MODULE__, {:slot_free, name, id})

  @doc "The slot of a job that another peer placed here is free: tells that peer's scheduler."
  @spec slot_free(node, name :: String.t(), id :: String.t()) :: :ok
  def slot_free(peer, name, id) do
    message = {:slot_free, Cluster.Peers.remote_name(name, node()), id}
    Cluster.Peers.send({__MODULE__, peer}, {:"$gen_cast", message})
  end

  @doc """
  A peer tells of one of its model nodes; nil when it takes no jobs any more. The calling process is
  the table of peers, which never waits for the scheduler.
  """
  @spec offered(name :: String.t(), node, Placement.told() | nil) :: :ok
  def offered(name, peer, told), do: GenServer.cast(__MODULE__, {:offered, name, peer, told})

  @doc """
  Takes a slot of a model node of this peer for a job that `peer` placed here, on behalf of the
  calling process. It gets `{:hosted, pid}` with the process of the model node, once, or `:refused`.
  """
  @spec host(name :: String.t(), id :: String.t(), mode, node) :: :ok
  def host(name, id, mode, peer) do
    GenServer.cast(__MODULE__, {:host, name, id, self(), mode, peer})
  end

  @doc """
  Takes no more jobs of other peers: they are told, and those that only wait here, or are on their
  way, are refused, so they wait at their gateways again.
  """
  @spec close() :: :ok
  def close, do: GenServer.call(__MODULE__, :close)

  @doc "How many jobs hold a slot."
  @spec running() :: non_neg_integer
  def running, do: GenServer.call(__MODULE__, :running)

  @doc "How many jobs hold a slot of a model node of this peer, whoever placed them."
  @spec held_here() :: non_neg_integer
  def held_here, do: GenServer.call(__MODULE__, :held_here)

  @doc "Waits until no job holds a slot; `:timeout` when that takes too long."
  @spec await_idle(timeout_ms :: non_neg_integer) :: :ok | :timeout
  def await_idle(timeout_ms) do
    GenServer.call(__MODULE__, :await_idle, timeout_ms)
  catch
    :exit, {:timeout, _call} -> :timeout
  end

  @impl GenServer
  def init(nil) do
    cluster? = Cluster.on?()
    if cluster?, do: Cluster.Peers.reset(:slots)
    ModelNode.announce_all()
    {:ok, %__MODULE__{cluster: cluster?}}
  end

  @impl GenServer
  def handle_call({:attach, family}, {pid, _tag}, state) do
    send(pid, {:slots_free, family})
    attached = %{state | queues: Map.put(state.queues, family, pid)}
    # What the queue before this one waited for.
    {:reply, :ok, attached |> unreserve(family) |> tell_apart(state)}
  end

  def handle_call({:claim, family, id, job, mode}, _from, state) do
    case take(state.placement, mode, family, id) do
      {:ok, name, node, placement} ->
        lease = %Lease{node: name, pid: node.pid, peer: node.peer, mode: mode}
        held = hold(%{state | placement: placement}, name, id, job)
        {:reply, {:ok, lease}, held |> tell_peers(name) |> tell_apart(state)}

      {:none, placement} ->
        {:reply, :none, tell_apart(%{state | placement: placement}, state)}

      :none ->
        {:reply, :none, state}
    end
  end

  def handle_call(:close, _from, state) do
    for {_name, _id, visit, _mode, _peer} <- state.patient, do: send(visit, :refused)
    state = %{state | open: false, patient: []}
    {:reply, :ok, Enum.reduce(Map.keys(state.placement.nodes), state, &tell_peers(&2, &1))}
  end

  def handle_call(:running, _from, state) do
    {:reply, Placement.running(state.placement), state}
  end

  def handle_call(:held_here, _from, state) do
    {:reply, Placement.held_here(state.placement), state}
  end

  def handle_call(:await_idle, from, state) do
    {:noreply, answer_idle(%{state | idle: [from | state.idle]})}
  end

  @impl GenServer
  def handle_cast({:node_up, name, pid, family, slots, jobs}, state) do
    placement = Placement.up(state.placement, name, pid, family, slots, jobs)
    watched = Map.put_new_lazy(state.watched, name, fn -> Process.monitor(pid) end)
    state = tell_peers(%{state | placement: placement, watched: watched}, name)
    {:noreply, tell(state, family)}
  end

  def handle_cast({:offered, name, _peer, nil}, state), do: {:noreply, lose(state, name)}

  def handle_cast({:offered, name, peer, told}, state) do
    host = {Cluster.host(), peer}
    placement = Placement.offered(state.placement, name, peer, host, told)
    {:noreply, tell(%{state | placement: placement}, told.family)}
  end

  def handle_cast({:host, name, id, visit, mode, peer}, state) do
    {:noreply, state |> host({name, id, visit, mode, peer}) |> tell_apart(state)}
  end

  def handle_cast({:withdraw, family}, state) do
    {:noreply, state |> unreserve(family) |> host_patient() |> tell(family) |> tell_apart(state)}
  end

  def handle_cast({:node_closed, name}, state) do
    state = %{state | placement: Placement.close(state.placement, name)}
    state = state |> tell_peers(name) |> host_patient()
    # A job that waits to run alone may have lost the model node that was kept for it.
    with %{^name => node} <- state.placement.nodes, do: tell(state, node.family)
    {:noreply, state}
  end

  def handle_cast({:node_down, name}, state), do: {:noreply, lose(state, name)}

  def handle_cast({:slot_free, name, id}, before) do
    state = measure(before, {name, id})
    state = %{state | placement: Placement.free(state.placement, name, id)}
    state = forget_holders(state, fn held -> held == {name, id} end)
    state = state |> goodbye({name, id}) |> tell_peers(name) |> host_patient()

    case state.placement.nodes do
      %{^name => node} ->
        state = state |> tell(node.family) |> tell_waiting() |> tell_apart(before)
        {:noreply, answer_idle(state)}

      _gone ->
        {:noreply, state}
    end
  end

  @impl GenServer
  def handle_info({:DOWN, ref, :process, pid, _reason}, state) do
    case Map.pop(state.holders, ref) do
      {nil, _holders} -> {:noreply, node_process_down(state, ref, pid)}
      {held, holders} -> {:noreply, stop_job(%{state | holders: holders}, held)}
    end
  end

  defp take(placement, :shared, family, id) do
    Placement.take(placement, family, id, :rand.uniform())
  end

  defp take(placement, :alone, family, id) do
    Placement.take_alone(placement, family, id, :rand.uniform())
  end

  defp take(placement, :apart, family, id) do
    Placement.take_apart(placement, family, id, :rand.uniform())
  end

  defp hold(state, name, id, job) do
    since = if state.cluster, do: Map.put(state.since, {name, id}, now()), else: state.since
    holders = Map.put(state.holders, Process.monitor(job), {name, id})
    %{state | holders: holders, since: since}
  end

  # --- other peers

  defp host(%{open: false} = state, {_name, _id, visit, _mode, _peer}) do
    send(visit, :refused)
    state
  end

  defp host(state, {name, id, visit, mode, peer} = guest) do
    case Placement.host(state.placement, name, id, mode) do
      {:ok, name, node, placement} ->
        send(visit, {:hosted, node.pid})
        guests = Map.put(state.guests, {name, id}, peer)
        state = hold(%{state | placement: placement, guests: guests}, name, id, visit)
        tell_peers(state, name)

      {:wait, placement} ->
        state = %{state | placement: placement, patient: [guest | state.patient]}
        tell_peers(state, name)

      :refused ->
        send(visit, :refused)
        state
    end
  end

  # Those that have gone meanwhile are refused, which nobody hears.
  defp host_patient(%{patient: []} = state), do: state

  defp host_patient(%{patient: patient} = state) do
    {here, gone} = Enum.split_with(patient, fn {_, _, visit, _, _} -> Process.alive?(visit) end)
    state = Enum.reduce(gone, %{state | patient: []}, &unreserve_guest/2)
    Enum.reduce(here, state, &host(&2, &1))
  end

  defp unreserve_guest({name, id, _visit, _mode, _peer}, state) do
    %{state | placement: Placement.unreserve_for(state.placement, name, id)} |> tell_peers(name)
  end

  defp goodbye(state, {name, id} = held) do
    {peer, guests} = Map.pop(state.guests, held)
    if peer, do: slot_free(peer, name, id)
    %{state | guests: guests}
  end

  defp tell_peers(%{cluster: false} = state, _name), do: state

  defp tell_peers(state, name) do
    with %{^name => %{peer: nil}} <- state.placement.nodes,
         told = Placement.told(state.placement, name),
         do: Cluster.Peers.put_slots(name, %{told | open: told.open and state.open})

    state
  end

  defp measure(state, held) do
    case Map.pop(state.since, held) do
      {nil, _since} ->
        state

      {since, left} ->
        {name, _id} = held
        placement = Placement.measured(state.placement, name, now() - since)
        %{state | placement: placement, since: left}
    end
  end

  defp now, do: System.monotonic_time(:millisecond)

  defp unreserve(state, family) do
    %{state | placement: Placement.unreserve(state.placement, family)}
  end

  defp stop_job(state, {name, id}) do
    case state.placement.nodes do
      %{^name => %{peer: nil, pid: pid}} ->
        ModelNode.cancel(pid, id)
        state

      # Over there the death of the job's process is noticed, too; that peer tells of the slot.
      %{^name => %{family: family}} ->
        freed = %{state | placement: Placement.free(state.placement, name, id)}
        freed |> tell(family) |> tell_apart(state) |> answer_idle()

      _gone ->
        state
    end
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

    {family, peer} =
      with %{^name => node} <- state.placement.nodes,
           do: {node.family, node.peer},
           else: (_ -> {nil, nil})

    if state.cluster and peer == nil, do: Cluster.Peers.put_slots(name, nil)

    %{state | placement: Placement.down(state.placement, name), watched: watched}
    |> forget_holders(fn {node, _id} -> node == name end)
    |> forget_guests(name)
    |> host_patient()
    |> tell(family)
    |> tell_waiting()
    |> tell_apart(state)
    |> answer_idle()
  end

  # Their peers are told that the model node is gone.
  defp forget_guests(%{guests: guests, since: since} = state, name) do
    of_name? = fn {{node, _id}, _of} -> node == name end
    guests = guests |> Enum.reject(of_name?) |> Map.new()
    %{state | guests: guests, since: since |> Enum.reject(of_name?) |> Map.new()}
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

  # Who waits for a peer to be empty waits for the slots of every family.
  defp tell_waiting(state) do
    Enum.each(state.placement.apart, fn {_peer, {_id, family}} -> tell(state, family) end)
    state
  end

  # When a peer is kept for a job, or let go, that concerns every family, and the other peers.
  defp tell_apart(%{placement: %{apart: same}} = state, %{placement: %{apart: same}}), do: state

  defp tell_apart(state, _before) do
    Enum.each(state.queues, fn {family, _queue} -> tell(state, family) end)
    Enum.reduce(Map.keys(state.placement.nodes), state, &tell_peers(&2, &1))
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
