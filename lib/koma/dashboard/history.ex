defmodule Koma.Dashboard.History do
  @moduledoc """
  The last 15 minutes for the charts of the dashboard: the counters of `Koma.Metrics` and how many
  jobs wait and run, each five seconds, whether somebody looks or not. One sample is a few dozen
  numbers; with the gateway it begins anew.
  """
  use GenServer

  alias Koma.Dashboard.Quantile
  alias Koma.Metrics.Table
  alias Koma.{ModelNode, Queue}

  @table __MODULE__
  @period_ms 5_000
  @span_ms 15 * 60_000
  @counted [
    :koma_jobs_accepted_total,
    :koma_jobs_refused_total,
    :koma_jobs_ended_total,
    :koma_job_queue_wait_seconds,
    :koma_job_duration_seconds
  ]

  @type sample :: %{
          at: integer,
          counters: %{(metric :: atom) => [{Table.labels(), number | {Quantile.counts(), float}}]},
          waiting: non_neg_integer,
          running: non_neg_integer
        }

  @doc "Starts the clock."
  @spec start_link(term) :: GenServer.on_start()
  def start_link(_options), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "How far back it goes, in ms."
  @spec span_ms() :: pos_integer
  def span_ms, do: @span_ms

  @doc "The time (monotonic, ms) of the latest sample: another one than before if there is a new one."
  @spec latest() :: integer
  def latest, do: :ets.last(@table)

  @doc "The samples, oldest first."
  @spec samples() :: [sample]
  def samples, do: @table |> :ets.tab2list() |> Enum.map(&elem(&1, 1))

  @doc "Takes one now; for tests."
  @spec sample() :: :ok
  def sample, do: GenServer.call(__MODULE__, :sample)

  @impl GenServer
  def init(nil) do
    @table = :ets.new(@table, [:ordered_set, :named_table, :protected])
    take()
    later()
    {:ok, nil}
  end

  @impl GenServer
  def handle_call(:sample, _from, nil) do
    take()
    {:reply, :ok, nil}
  end

  @impl GenServer
  def handle_info(:sample, nil) do
    take()
    later()
    {:noreply, nil}
  end

  defp later, do: Process.send_after(self(), :sample, @period_ms)

  defp take do
    now = System.monotonic_time(:millisecond)
    sample = %{at: now, counters: counters()}
    true = :ets.insert(@table, {now, Map.merge(sample, states())})

    _old =
      :ets.select_delete(@table, [
        {{:"$1", :_}, [{:<, :"$1", now - @span_ms - @period_ms}], [true]}
      ])

    :ok
  end

  # Of a histogram most buckets are empty, and there are many samples: only the others are kept.
  defp counters do
    for {metric, values} <- Map.take(Table.read(), @counted), into: %{} do
      {metric, for({labels, value} <- values, do: {labels, sparse(value)})}
    end
  end

  defp sparse({counts, sum}), do: {Quantile.sparse(counts), sum}
  defp sparse(count), do: count

  defp states do
    Koma.ask(fn -> %{waiting: waiting(), running: running()} end, %{waiting: 0, running: 0})
  end

  defp waiting do
    Queue.families() |> Enum.map(&Queue.depth(&1, @period_ms).jobs) |> Enum.sum()
  end

  defp running do
    ModelNode.Catalogue.rows()
    |> Enum.map(&if(&1.stats, do: &1.stats.running, else: 0))
    |> Enum.sum()
  end
end
