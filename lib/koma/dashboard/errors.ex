defmodule Koma.Dashboard.Errors do
  @moduledoc """
  The latest errors, kept for the dashboard: jobs that failed or expired, model nodes that died, and
  attempts that were lost for other reasons than that. Refusals are too many to be kept one by one;
  they are counted in the metrics.

  Written by whoever executes the event: one insert, and one delete once `kept/0` are there.
  """
  use GenServer

  alias Koma.Telemetry

  @table __MODULE__
  @kept 100
  # Told once, of the model node.
  @deaths ~w(node_crashed node_hung peer_lost unavailable)
  @events [[:koma, :job, :finished], [:koma, :job, :retrying], [:koma, :model_node, :down]]

  @type kind :: :job | :attempt | :model_node
  @type t :: %{
          at: integer,
          kind: kind,
          code: String.t(),
          family: String.t(),
          name: String.t(),
          message: String.t() | nil
        }

  @doc "Starts the owner of the table."
  @spec start_link(term) :: GenServer.on_start()
  def start_link(_options), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "What `Koma.Telemetry` is to be started with, so that errors are noted."
  @spec handlers() :: [Telemetry.attachment()]
  def handlers, do: [{__MODULE__, @events, &__MODULE__.handle/4, nil}]

  @doc "How many are kept."
  @spec kept() :: pos_integer
  def kept, do: @kept

  @doc "The latest first."
  @spec latest() :: [t]
  def latest, do: @table |> :ets.tab2list() |> Enum.reverse() |> Enum.map(&elem(&1, 1))

  @doc false
  @spec handle(Telemetry.event(), map, map, nil) :: :ok
  def handle([:koma, :job, :finished], _measured, %{state: state} = job, nil) do
    if state in ~w(failed expired), do: note(:job, job.code, job.model, job.id, nil), else: :ok
  end

  def handle([:koma, :job, :retrying], _measured, %{code: code}, nil) when code in @deaths,
    do: :ok

  def handle([:koma, :job, :retrying], _measured, job, nil) do
    note(:attempt, job.code, job.model, job.id, nil)
  end

  # Ordered by an operator.
  def handle([:koma, :model_node, :down], _measured, %{code: "unavailable"}, nil), do: :ok

  def handle([:koma, :model_node, :down], %{jobs: jobs}, node, nil) do
    note(:model_node, node.code, node.family, node.node, "#{node.reason}; it had #{jobs} jobs")
  end

  defp note(kind, code, family, name, message) do
    error = %{kind: kind, code: code, family: family, name: name, message: message}
    error = Map.put(error, :at, System.system_time(:millisecond))
    true = :ets.insert(@table, {System.unique_integer([:monotonic]), error})
    if :ets.info(@table, :size) > @kept, do: :ets.delete(@table, :ets.first(@table))
    :ok
  rescue
    # The table is being made anew.
    ArgumentError -> :ok
  end

  @impl GenServer
  def init(nil) do
    @table = :ets.new(@table, [:ordered_set, :named_table, :public])
    {:ok, nil}
  end
end
