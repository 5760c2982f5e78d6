defmodule Koma.Telemetry do
  @moduledoc """
  Events of the road of a job, with the interface of the `telemetry` library (Debian does not
  carry it), kept as small as what is used.

  A handler runs in the process that executes the event. One that raises is detached and logged.

  | event | measurements | metadata |
  |---|---|---|
  | `[:koma, :job, :accepted]` | `count` | `id`, `task`, `model` |
  | `[:koma, :job, :started]` | `queue_ms` | `id`, `task`, `model`, `attempt`, `node` |
  | `[:koma, :job, :retrying]` | `count` | `id`, `task`, `model`, `attempt`, `code` |
  | `[:koma, :job, :finished]` | `duration_ms` | `id`, `task`, `model`, `state`, `code` |
  | `[:koma, :queue, :refused]` | `count` | `model`, `code` |
  | `[:koma, :model_node, :up]` | `count` | `node`, `family` |
  | `[:koma, :model_node, :down]` | `count` | `node`, `family`, `code`, `reason` |
  | `[:koma, :model_node, :stats]` | the numbers of a `stats` message | `node`, `family` |
  | `[:koma, :store, :compacted]` | `bytes_before`, `bytes_after` | – |
  | `[:koma, :cache, :hit]`, `[:koma, :cache, :miss]` | `count` | – |
  | `[:koma, :store, :collected]` | `jobs`, `files`, `bytes` | – |
  """
  use GenServer
  require Logger

  @table __MODULE__

  @type event :: [atom, ...]
  @type handler :: (event, map, map, term -> any)

  @doc "Starts the owner of the table of handlers."
  @spec start_link(term) :: GenServer.on_start()
  def start_link(_options), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "Calls `handler` with `config` for each of `events`; `id` must be new."
  @spec attach(term, [event], handler, term) :: :ok | {:error, :already_exists}
  def attach(id, events, handler, config) do
    GenServer.call(__MODULE__, {:attach, id, events, handler, config})
  end

  @doc "Takes the handler away."
  @spec detach(term) :: :ok
  def detach(id), do: GenServer.call(__MODULE__, {:detach, id})

  @doc "Tells every handler of `event`. Harmless while nothing is started."
  @spec execute(event, map, map) :: :ok
  def execute(event, measurements, metadata) do
    for {_event, id, handler, config} <- handlers(event) do
      try do
        handler.(event, measurements, metadata, config)
      catch
        kind, reason ->
          Logger.error(
            "telemetry handler #{inspect(id)} is detached: " <>
              Exception.format(kind, reason, __STACKTRACE__)
          )

          detach(id)
      end
    end

    :ok
  end

  defp handlers(event) do
    :ets.lookup(@table, event)
  rescue
    ArgumentError -> []
  end

  @impl GenServer
  def init(nil) do
    @table = :ets.new(@table, [:bag, :named_table, :protected, read_concurrency: true])
    {:ok, MapSet.new()}
  end

  @impl GenServer
  def handle_call({:attach, id, events, handler, config}, _from, ids) do
    if MapSet.member?(ids, id) do
      {:reply, {:error, :already_exists}, ids}
    else
      for event <- events, do: :ets.insert(@table, {event, id, handler, config})
      {:reply, :ok, MapSet.put(ids, id)}
    end
  end

  def handle_call({:detach, id}, _from, ids) do
    :ets.match_delete(@table, {:_, id, :_, :_})
    {:reply, :ok, MapSet.delete(ids, id)}
  end
end
