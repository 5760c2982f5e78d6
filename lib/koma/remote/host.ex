defmodule Koma.Remote.Host do
  @moduledoc """
  Takes jobs that other peers place on the model nodes of this one. Each attempt is a process of its
  own (`Koma.Remote.Visit`), by the process of the job that it is for; it is told here alone, so that whoever
  placed a job monitors one process per peer, and nothing is asked before it is sent.
  """
  use GenServer

  alias Koma.Remote.Visit
  alias Koma.{Cluster, Error}

  defstruct visits: %{}, refs: %{}, idle: []

  @doc "Starts it."
  @spec start_link(term) :: GenServer.on_start()
  def start_link(_options), do: GenServer.start_link(__MODULE__, nil, name: Cluster.host())

  @doc "Waits until there is no attempt here, or the time is up."
  @spec await_idle(timeout_ms :: non_neg_integer) :: :ok
  def await_idle(timeout_ms) do
    GenServer.call(Cluster.host(), :await_idle, timeout_ms)
  catch
    :exit, {:timeout, _call} -> :ok
  end

  @impl GenServer
  def handle_call(:await_idle, from, state),
    do: {:noreply, idle(%{state | idle: [from | state.idle]})}

  @impl GenServer
  def init(nil), do: {:ok, %__MODULE__{}}

  @impl GenServer
  def handle_cast({:submit, name, submit, job, mode}, state) do
    {:ok, pid} = Visit.start(name, submit, job, mode)
    key = {submit.id, job}
    refs = Map.put(state.refs, Process.monitor(pid), {key, submit.attempt})
    {:noreply, %{state | visits: Map.put(state.visits, key, pid), refs: refs}}
  end

  def handle_cast({:cancel, id, job}, state) do
    with %{{^id, ^job} => visit} <- state.visits, do: Visit.cancel(visit)
    {:noreply, state}
  end

  @impl GenServer
  def handle_info({:DOWN, ref, :process, pid, reason}, state) do
    {{{id, job} = key, attempt}, refs} = Map.pop!(state.refs, ref)
    if reason not in [:normal, :shutdown], do: lost(job, id, attempt)
    # The next attempt may be here already.
    visits = if state.visits[key] == pid, do: Map.delete(state.visits, key), else: state.visits
    {:noreply, idle(%{state | visits: visits, refs: refs})}
  end

  defp idle(%{refs: refs} = state) when refs != %{}, do: state

  defp idle(state) do
    Enum.each(state.idle, &GenServer.reply(&1, :ok))
    %{state | idle: []}
  end

  defp lost(job, id, attempt) do
    error = Error.new("node_crashed", "The process of the attempt on #{node()} died")
    Cluster.Peers.send(job, {:model_node, id, attempt, {:lost, error}})
  end
end
