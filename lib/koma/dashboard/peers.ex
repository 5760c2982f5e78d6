defmodule Koma.Dashboard.Peers do
  @moduledoc """
  What the model nodes and queues of a peer do, in numbers; and the latest that the other peers told of theirs.

  A peer is asked once a second at most, only while somebody looks, and never a second time before it has
  answered or the question was given up. Nobody waits for an answer: a peer that hangs holds no panel up, its
  numbers only grow old.
  """
  use GenServer

  alias Koma.{Cluster, ModelNode, Queue}
  alias Koma.Metrics.Table

  @table __MODULE__
  @period_ms 1_000
  @answer_ms 5_000
  @queue_ms 500

  @typedoc "Of one model node; `nil` where it has told nothing yet."
  @type numbers :: %{
          running: non_neg_integer | nil,
          batch: non_neg_integer | nil,
          step_ms: number | nil,
          memory: non_neg_integer | nil,
          device_memory: non_neg_integer,
          restarts: non_neg_integer
        }
  @type queue :: %{
          family: String.t(),
          jobs: non_neg_integer,
          oldest_ms: non_neg_integer,
          paused: boolean,
          keys: [{key :: String.t() | nil, jobs :: pos_integer}]
        }
  @typedoc "`jobs` is how many live jobs the peer has; `at` when it was told, monotonic, in ms."
  @type report :: %{
          nodes: %{(name :: String.t()) => numbers},
          queues: [queue],
          jobs: non_neg_integer,
          at: integer
        }

  @doc "Starts what keeps the answers."
  @spec start_link(term) :: GenServer.on_start()
  def start_link(_options), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "What the other peers told last; they are asked again, unless they just were."
  @spec latest() :: %{node => report}
  def latest do
    peers = Cluster.peers()
    if peers != [], do: GenServer.cast(__MODULE__, {:ask, peers})

    for peer <- peers,
        [{_peer, report}] <- [:ets.lookup(@table, peer)],
        into: %{},
        do: {peer, report}
  end

  @doc "How this peer is; called by the others."
  @spec here() :: %{nodes: %{String.t() => numbers}, queues: [queue], jobs: non_neg_integer}
  def here, do: %{nodes: nodes(), queues: queues(), jobs: length(Koma.Job.Processes.all())}

  @doc "The numbers of the model nodes of this peer, by name."
  @spec nodes() :: %{String.t() => numbers}
  def nodes do
    # The same counter as in /metrics.
    restarts = Table.read() |> Map.get(:koma_model_node_restarts_total, []) |> Map.new()

    Map.new(ModelNode.Catalogue.rows(), fn %{spec: spec, stats: stats} ->
      counted = Map.get(restarts, [spec.family, spec.name], 0)
      {spec.name, stats |> numbers() |> Map.put(:restarts, counted)}
    end)
  end

  defp numbers(nil), do: %{running: nil, batch: nil, step_ms: nil, memory: nil, device_memory: 0}

  defp numbers(stats) do
    %{
      running: stats.running,
      batch: stats.last_batch,
      step_ms: stats.step_ms,
      memory: stats.memory_bytes,
      device_memory: stats.device_memory_bytes
    }
  end

  @doc "The queues of this peer, by family."
  @spec queues() :: [queue]
  def queues, do: Queue.families() |> Enum.sort() |> Enum.map(&queue/1)

  defp queue(family) do
    depth = Queue.depth(family, @queue_ms)
    keys = Enum.sort_by(depth.keys, fn {key, jobs} -> {-jobs, key} end)
    # In whole seconds: it counts up in front of somebody.
    oldest_ms = 1000 * div(depth.oldest_ms, 1000)
    Map.merge(depth, %{family: family, oldest_ms: oldest_ms, keys: keys})
  end

  @impl GenServer
  def init(nil) do
    @table = :ets.new(@table, [:named_table, :protected, read_concurrency: true])
    {:ok, %{asked: %{}, asking: %{}}}
  end

  @impl GenServer
  def handle_cast({:ask, peers}, state) do
    for {peer, _report} <- :ets.tab2list(@table), peer not in peers, do: :ets.delete(@table, peer)
    {:noreply, peers |> Enum.filter(&due?(state, &1)) |> Enum.reduce(state, &ask/2)}
  end

  @impl GenServer
  def handle_info({ref, answer}, state) when is_map_key(state.asking, ref) do
    Process.demonitor(ref, [:flush])
    {peer, asking} = Map.pop!(state.asking, ref)
    with {:ok, report} <- answer, do: :ets.insert(@table, {peer, Map.put(report, :at, now())})
    {:noreply, %{state | asking: asking}}
  end

  def handle_info({:DOWN, ref, :process, _pid, _reason}, state) do
    {:noreply, %{state | asking: Map.delete(state.asking, ref)}}
  end

  defp due?(%{asked: asked, asking: asking}, peer) do
    now() - Map.get(asked, peer, now() - @period_ms) >= @period_ms and
      peer not in Map.values(asking)
  end

  defp ask(peer, state) do
    task = Task.Supervisor.async_nolink(Koma.Cluster.Tasks, fn -> answer(peer) end)
    put_in(state.asking[task.ref], peer) |> put_in([:asked, peer], now())
  end

  # One that speaks another version, or whose core starts again, has nothing to tell.
  defp answer(peer) do
    {:ok, :erpc.call(peer, __MODULE__, :here, [], @answer_ms)}
  catch
    _kind, _reason -> :no_answer
  end

  defp now, do: System.monotonic_time(:millisecond)
end
