defmodule Koma.Metrics.Table do
  @moduledoc """
  Counters and histograms in one ETS table, counted by whoever executes an event: an update is
  one or two atomic operations, without a process in between. Without the table nothing is counted.

  A histogram is one row of integers: a count for each bucket, one for what is beyond the last, and
  the sum in ms, so that whoever reads it sees whole observations.
  """

  alias Koma.Metrics.Definitions

  @table __MODULE__
  @bounds Definitions.seconds() |> Enum.map(&(&1 * 1000)) |> List.to_tuple()
  @buckets tuple_size(@bounds)
  # The key, a count for each bucket, one for what is beyond; then the sum.
  @sum_at @buckets + 3
  @empty Tuple.duplicate(0, @sum_at)

  @type labels :: [String.t()]
  @typedoc "Counts for each bucket and beyond, not summed up, and the sum in seconds."
  @type histogram :: {[non_neg_integer], float}
  @type values :: %{(metric :: atom) => [{labels, number | histogram}]}

  @doc "Makes the table, owned by the calling process."
  @spec create() :: :ok
  def create do
    options = [:named_table, :public, write_concurrency: :auto, decentralized_counters: true]
    @table = :ets.new(@table, options)
    :ok
  end

  @doc "Adds to a counter."
  @spec add(atom, labels, non_neg_integer) :: :ok
  def add(name, labels, n \\ 1), do: update({name, labels}, {2, n}, {nil, 0})

  @doc "Puts a duration in ms into a histogram."
  @spec observe_ms(atom, labels, non_neg_integer) :: :ok
  def observe_ms(name, labels, ms) do
    at = bucket(ms, 0, @buckets) + 2
    update({name, labels}, [{at, 1}, {@sum_at, ms}], @empty)
  end

  defp update(key, operation, empty) do
    _new = :ets.update_counter(@table, key, operation, empty)
    :ok
  rescue
    ArgumentError -> :ok
  end

  # The first bucket, from `low` on, whose bound is not below; `high` is right if none of those before it is.
  defp bucket(_ms, high, high), do: high

  defp bucket(ms, low, high) do
    middle = div(low + high, 2)

    if ms <= elem(@bounds, middle),
      do: bucket(ms, low, middle),
      else: bucket(ms, middle + 1, high)
  end

  @doc "Every value by metric."
  @spec read() :: values
  def read do
    rows()
    |> Enum.sort()
    |> Enum.group_by(fn row -> row |> elem(0) |> elem(0) end, &value/1)
  end

  defp rows do
    :ets.tab2list(@table)
  rescue
    ArgumentError -> []
  end

  defp value({{_name, labels}, n}), do: {labels, n}

  defp value(row) do
    [{_name, labels} | numbers] = Tuple.to_list(row)
    {counts, [sum]} = Enum.split(numbers, @buckets + 1)
    {labels, {counts, sum / 1000}}
  end
end
