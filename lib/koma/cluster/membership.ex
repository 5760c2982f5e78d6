defmodule Koma.Cluster.Membership do
  @moduledoc """
  Keeps this peer connected with all others: asks again and again who they are
  (`Koma.Cluster.Discovery`), and connects to those that are missing, each in a process of its own,
  with growing pauses.
  """
  use GenServer
  require Logger

  alias Koma.Cluster.Discovery
  alias Koma.ModelNode.Backoff
  alias Koma.{Options, Telemetry}

  @refresh_ms 5_000
  @retry_min_ms 250
  @retry_max_ms 10_000
  # So many attempts in a row that failed are worth a line in the log; once.
  @tell_after 3

  @enforce_keys [:options]
  defstruct [:options, peers: [], connecting: %{}, failures: %{}, due: MapSet.new()]

  @doc "Starts it."
  @spec start_link(Options.t()) :: GenServer.on_start()
  def start_link(options), do: GenServer.start_link(__MODULE__, options, name: __MODULE__)

  @doc "The peers that there should be."
  @spec known() :: [node]
  def known, do: :persistent_term.get(__MODULE__, [])

  @impl GenServer
  def init(options) do
    :ok = :net_kernel.monitor_nodes(true, node_type: :visible)
    send(self(), :refresh)
    {:ok, %__MODULE__{options: options}}
  end

  @impl GenServer
  def handle_info(:refresh, %{options: options} = state) do
    me = self()
    find = fn -> Discovery.peers(options.peers, options.peers_dns, options.node) end
    {:ok, _pid} = Task.start(fn -> send(me, {:peers, find.()}) end)
    _timer = Process.send_after(self(), :refresh, @refresh_ms)
    {:noreply, state}
  end

  def handle_info({:peers, peers}, state) do
    if peers != state.peers, do: :persistent_term.put(__MODULE__, peers)
    {:noreply, Enum.reduce(peers, %{state | peers: peers}, &connect/2)}
  end

  def handle_info({:retry, peer}, state) do
    {:noreply, connect(peer, %{state | due: MapSet.delete(state.due, peer)})}
  end

  def handle_info({:DOWN, ref, :process, _pid, _reason}, state) do
    {peer, connecting} = Map.pop(state.connecting, ref)
    state = %{state | connecting: connecting}
    if peer in Node.list(), do: {:noreply, state}, else: {:noreply, retry(state, peer)}
  end

  def handle_info({:nodeup, peer, _info}, state) do
    Logger.info("peer #{peer} is connected")
    Telemetry.execute([:koma, :cluster, :peer_up], %{count: 1}, %{peer: peer})
    {:noreply, %{state | failures: Map.delete(state.failures, peer)}}
  end

  def handle_info({:nodedown, peer, _info}, state) do
    Logger.warning("peer #{peer} is gone")
    Telemetry.execute([:koma, :cluster, :peer_down], %{count: 1}, %{peer: peer})
    if peer in state.peers, do: {:noreply, retry(state, peer)}, else: {:noreply, state}
  end

  # One attempt at a time; one that hangs (a host that is off) holds nobody else up.
  defp connect(peer, state) do
    busy? = peer in Map.values(state.connecting) or peer in state.due

    if busy? or peer in Node.list() or peer not in state.peers do
      state
    else
      {_pid, ref} = spawn_monitor(fn -> :net_kernel.connect_node(peer) end)
      put_in(state.connecting[ref], peer)
    end
  end

  defp retry(state, peer) do
    if peer in state.due or peer in Map.values(state.connecting) do
      state
    else
      failures = Map.get(state.failures, peer, 0) + 1
      pause = Backoff.delay_ms(failures, @retry_min_ms, @retry_max_ms, :rand.uniform())
      _timer = Process.send_after(self(), {:retry, peer}, pause)
      if failures == @tell_after, do: Logger.warning(unreachable(peer))
      failures = Map.put(state.failures, peer, failures)
      %{state | failures: failures, due: MapSet.put(state.due, peer)}
    end
  end

  defp unreachable(peer) do
    "peer #{peer} cannot be connected: it is down, its epmd or port cannot be reached, its cookie is " <>
      "another one, or only one side uses TLS; its log says which. It is tried again."
  end
end
