defmodule Koma.Cluster.Peers do
  @moduledoc """
  What the peers offer. One such process on each peer joins the group `:peers` of `:pg`; so they find
  one another. Each tells the others of its model nodes whenever something changes: the row of the
  catalogue (family, checkpoint, schemas, phase) and the slots (`Koma.Scheduler.Placement.told/1`). What
  the others told is in a table here, read by anyone; nobody is asked when a job is placed.

  It stands outside of `Koma.Core`, so it outlives a crash of the scheduler, its listener, and tells it all again.
  """
  use GenServer
  require Logger

  alias Koma.Cluster.Link
  alias Koma.ModelNode.Catalogue.Row
  alias Koma.Options

  @table __MODULE__
  @scope Koma.Cluster.Groups
  # Of what peers say to each other: raised when an older peer would misunderstand a newer one.
  @protocol 2

  @enforce_keys [:hello, :offered]
  defstruct [:hello, :offered, rows: %{}, slots: %{}, links: %{}, peers: %{}]

  @typedoc "Is told of the slots of a model node of another peer; nil when it takes no jobs."
  @type listener :: (name :: String.t(), node, map | nil -> :ok)

  @doc "Starts it; the `:pg` scope must run. The listener is told what other peers offer."
  @spec start_link({Options.t(), listener}) :: GenServer.on_start()
  def start_link({_options, _offered} = given),
    do: GenServer.start_link(__MODULE__, given, name: __MODULE__)

  @doc "A model node of this peer has a new row; one that differs in its numbers only is not told."
  @spec put_row(Row.t()) :: :ok
  def put_row(%Row{} = row), do: GenServer.cast(__MODULE__, {:row, %{row | stats: nil}})

  @doc "The slots of a model node of this peer; nil while it takes no jobs at all."
  @spec put_slots(name :: String.t(), map | nil) :: :ok
  def put_slots(name, told), do: GenServer.cast(__MODULE__, {:slots, name, told})

  @doc "The scheduler, or all of the core, starts anew: nothing is offered until it is told again."
  @spec reset(:rows | :slots) :: :ok
  def reset(what), do: GenServer.cast(__MODULE__, {:reset, what})

  @doc "The rows of the model nodes of the other peers; their names are `<name>@<peer>`."
  @spec rows() :: [Row.t()]
  def rows, do: @table |> :ets.match({{:row, :_, :_}, :"$1"}) |> List.flatten()

  @doc "The other peers that are connected and understood, each with its roles."
  @spec connected() :: [{node, [atom]}]
  def connected,
    do: for([peer, roles] <- :ets.match(@table, {{:peer, :"$1"}, :"$2"}), do: {peer, roles})

  @doc "Sends a message to a process of a peer without ever being suspended; lost if it is not connected."
  @spec send(to :: {atom, node} | pid, term) :: :ok
  def send(to, message) do
    peer = if is_pid(to), do: node(to), else: elem(to, 1)

    case :ets.lookup(@table, {:link, peer}) do
      [{_key, link}] -> Link.send(link, to, message)
      [] -> :ok
    end
  end

  @doc "What a model node of a peer is called on the other peers."
  @spec remote_name(String.t(), node) :: String.t()
  def remote_name(name, peer), do: "#{name}@#{peer}"

  @impl GenServer
  def init({options, offered}) do
    @table = :ets.new(@table, [:named_table, :protected, read_concurrency: true])
    hello = %{protocol: @protocol, version: version(), roles: options.roles}
    :ok = :pg.join(@scope, :peers, self())
    {_ref, pids} = :pg.monitor(@scope, :peers)
    {:ok, Enum.reduce(pids, %__MODULE__{hello: hello, offered: offered}, &link/2)}
  end

  defp version, do: to_string(Application.spec(:koma, :vsn) || "unknown")

  @impl GenServer
  def handle_cast({:row, %Row{spec: %{name: name}} = row}, state) do
    if state.rows[name] == row,
      do: {:noreply, state},
      else: {:noreply, tell(%{state | rows: Map.put(state.rows, name, row)}, {:row, name, row})}
  end

  def handle_cast({:slots, name, told}, state) do
    if state.slots[name] == told,
      do: {:noreply, state},
      else:
        {:noreply, tell(%{state | slots: Map.put(state.slots, name, told)}, {:slots, name, told})}
  end

  def handle_cast({:reset, :slots}, state) do
    for {_pid, peer} <- state.peers,
        {name, told} <- peer.slots,
        do: schedule(state, peer, name, told)

    {:noreply, tell(%{state | slots: %{}}, {:reset, :slots})}
  end

  def handle_cast({:reset, :rows}, state) do
    {:noreply, tell(%{state | rows: %{}}, {:reset, :rows})}
  end

  @impl GenServer
  def handle_info({_ref, :join, :peers, pids}, state),
    do: {:noreply, Enum.reduce(pids, state, &link/2)}

  # Those that left are dead: their monitors tell.
  def handle_info({_ref, :leave, :peers, _pids}, state), do: {:noreply, state}

  def handle_info({:hello, pid, hello, rows, slots}, state) do
    state = link(pid, state)

    if hello.protocol == @protocol,
      do: {:noreply, greet(state, pid, hello, rows, slots)},
      else: {:noreply, refuse(state, pid, hello)}
  end

  def handle_info({:told, pid, news}, state) when is_map_key(state.peers, pid) do
    {:noreply, update_in(state.peers[pid], &take(&1, news, state))}
  end

  def handle_info({:told, _from_a_stranger, _news}, state), do: {:noreply, state}

  def handle_info({:DOWN, _ref, :process, pid, _reason}, state) do
    {peer, peers} = Map.pop(state.peers, pid)
    if peer, do: forget(peer, state)
    links = Map.delete(state.links, pid)

    if not Enum.any?(links, fn {other, _link} -> node(other) == node(pid) end),
      do: :ets.delete(@table, {:link, node(pid)})

    {:noreply, %{state | links: links, peers: peers}}
  end

  # --- others

  defp link(pid, state) when node(pid) == node() or is_map_key(state.links, pid), do: state

  defp link(pid, state) do
    Process.monitor(pid)
    link = Link.start_link(pid)
    :ets.insert(@table, {{:link, node(pid)}, link})
    Link.send(link, pid, {:hello, self(), state.hello, state.rows, state.slots})
    put_in(state.links[pid], link)
  end

  defp refuse(state, pid, hello) do
    Logger.error(
      "peer #{node(pid)} speaks version #{hello.protocol} of the cluster's protocol (Koma #{hello.version}), " <>
        "this peer #{@protocol} (Koma #{state.hello.version}): neither gives jobs to the other"
    )

    state
  end

  defp greet(state, pid, hello, rows, slots) do
    Logger.info(
      "peer #{node(pid)} is #{Enum.join(hello.roles, " and ")}, with #{map_size(rows)} model nodes"
    )

    peer = %{node: node(pid), rows: %{}, slots: %{}}
    :ets.insert(@table, {{:peer, node(pid)}, hello.roles})

    peer =
      Enum.reduce(rows, peer, fn {name, row}, peer -> take(peer, {:row, name, row}, state) end)

    peer =
      Enum.reduce(slots, peer, fn {name, told}, peer ->
        take(peer, {:slots, name, told}, state)
      end)

    put_in(state.peers[pid], peer)
  end

  defp take(peer, {:row, name, row}, _state) do
    spec = %{row.spec | name: remote_name(name, peer.node)}
    :ets.insert(@table, {{:row, peer.node, name}, %{row | spec: spec}})
    put_in(peer.rows[name], row.spec.family)
  end

  defp take(peer, {:slots, name, told}, state) do
    peer = put_in(peer.slots[name], told)
    schedule(state, peer, name, told)
    peer
  end

  defp take(peer, {:reset, :rows}, _state) do
    :ets.match_delete(@table, {{:row, peer.node, :_}, :_})
    %{peer | rows: %{}}
  end

  defp take(peer, {:reset, :slots}, state) do
    for {name, _told} <- peer.slots, do: schedule(state, peer, name, nil)
    %{peer | slots: %{}}
  end

  defp forget(peer, state) do
    _forgotten = peer |> take({:reset, :slots}, state) |> take({:reset, :rows}, state)
    :ets.delete(@table, {:peer, peer.node})
  end

  defp schedule(state, peer, name, told) do
    state.offered.(remote_name(name, peer.node), peer.node, told)
  end

  # --- to the others

  defp tell(state, news) do
    for {pid, link} <- state.links, do: Link.send(link, pid, {:told, self(), news})
    state
  end
end
