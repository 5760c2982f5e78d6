defmodule Koma.Inventory do
  @moduledoc "What a core of `Koma.CoreCase` holds while it is at rest; what is more afterwards is a leak."

  alias Koma.Dashboard.History

  @doc "Counts everything; `dir` is the folder of the core, with model nodes of the toy family."
  @spec take(Path.t()) :: %{atom => non_neg_integer}
  def take(dir) do
    queue = :sys.get_state({:via, Registry, {Koma.Queue.Registry, "toy"}})
    scheduler = :sys.get_state(Koma.Scheduler)
    keeper = :sys.get_state(Koma.Job.Keeper)

    # Tests load modules when they first need them; the dashboard's history grows for a quarter of an hour.
    tables = for {_id, {name, size}} <- tables(), name not in [:code, History], do: size

    %{
      processes: length(Process.list()),
      ports: length(Port.list()),
      descriptors: length(File.ls!("/proc/self/fd")),
      tables: length(tables),
      entries: Enum.sum(tables),
      waiting: Koma.Queue.Line.size(queue.line),
      owners: map_size(queue.owners) + map_size(queue.refs),
      told: map_size(queue.news.told),
      slots: map_size(scheduler.holders),
      kept: map_size(keeper.jobs) + map_size(keeper.crashes),
      files: length(File.ls!(Path.join(dir, "work"))) + length(File.ls!(Path.join(dir, "tmp")))
    }
  end

  @doc "What is more than before; a few processes, files and entries of the system itself come and go."
  @spec leaks(before :: map, later :: map) :: [{atom, non_neg_integer, non_neg_integer}]
  def leaks(before, later) do
    for {what, count} <- later,
        count > before[what] + slack(what),
        do: {what, before[what], count}
  end

  @doc "The tables (ETS) and how many entries each has."
  @spec tables() :: %{reference => {name :: atom, entries :: non_neg_integer}}
  def tables do
    for table <- :ets.all(), size = :ets.info(table, :size), is_integer(size), into: %{} do
      {:ets.info(table, :id), {:ets.info(table, :name), size}}
    end
  end

  @doc "Which tables have more entries than before."
  @spec grown(before :: map, later :: map) :: [{atom, non_neg_integer, non_neg_integer}]
  def grown(before, later) do
    for {id, {name, size}} <- later,
        {_name, was} = Map.get(before, id, {name, 0}),
        size > was,
        do: {name, was, size}
  end

  defp slack(what) when what in [:processes, :ports, :descriptors, :tables, :entries], do: 10
  defp slack(_own), do: 0
end
