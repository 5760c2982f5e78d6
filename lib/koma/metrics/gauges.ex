defmodule Koma.Metrics.Gauges do
  @moduledoc """
  What is a state, read when somebody asks. A part of the gateway that is starting again has no
  values then; those of the others are told all the same.
  """

  alias Koma.{Cache, Cluster, ModelNode, Queue, Redis, Store}
  alias Koma.Access.{Connections, Descriptors}
  alias Koma.Channel.Sockets
  alias Koma.Metrics.Table
  alias Koma.ModelNode.Catalogue

  # What does not answer by then is left out.
  @queue_ms 1_000
  @live_states ~w(accepted queued running retrying)
  @memory [:total, :processes, :system, :atom, :binary, :code, :ets]

  @doc "Every value by metric."
  @spec read() :: Table.values()
  def read do
    [&jobs/0, &queues/0, &model_nodes/0, &connections/0, &sockets/0, &channels/0, &cache/0]
    |> Enum.concat([&redis/0, &peers/0, &beam/0])
    |> Enum.map(&ask/1)
    |> Enum.reduce(%{}, &Map.merge/2)
  end

  defp ask(part) do
    part.()
  catch
    # Its process is gone, or its table is.
    :exit, _reason -> %{}
    :error, %ArgumentError{} -> %{}
    :error, :badarg -> %{}
  end

  defp peers, do: %{koma_cluster_peers: [{[], length(Cluster.peers())}]}

  # Zero is told, too: a series that comes and goes cannot be watched.
  defp jobs do
    live = Store.Jobs.count_live()
    families = Enum.uniq(Queue.families() ++ for({{family, _state}, _n} <- live, do: family))

    rows =
      for family <- Enum.sort(families), state <- @live_states do
        {[family, state], Map.get(live, {family, state}, 0)}
      end

    %{koma_jobs: rows}
  end

  defp queues do
    depths = for family <- Enum.sort(Queue.families()), depth <- depth(family), do: depth

    %{
      koma_queue_jobs: for({family, depth} <- depths, do: {[family], depth.jobs}),
      koma_queue_oldest_wait_seconds:
        for({family, depth} <- depths, do: {[family], depth.oldest_ms / 1000}),
      koma_queue_paused:
        for({family, depth} <- depths, do: {[family], if(depth.paused, do: 1, else: 0)})
    }
  end

  defp depth(family) do
    [{family, Queue.depth(family, @queue_ms)}]
  catch
    :exit, _busy_or_gone -> []
  end

  defp model_nodes do
    rows = Catalogue.rows()
    up = for row <- rows, do: {labels(row), if(row.phase == :ready, do: 1, else: 0)}
    loaded = for %{load_ms: ms} = row when ms != nil <- rows, do: {labels(row), ms / 1000}
    told = for %{stats: stats} = row when stats != nil <- rows, do: {labels(row), stats}

    Map.merge(stats(told), %{koma_model_node_up: up, koma_model_node_load_seconds: loaded})
  end

  defp labels(%Catalogue.Row{spec: %ModelNode.Spec{family: family, name: name}}) do
    [family, name]
  end

  defp stats(told) do
    for {metric, value} <- [
          koma_model_node_slots: & &1.slots,
          koma_model_node_running: & &1.running,
          koma_model_node_forwards_total: & &1.forwards,
          koma_model_node_rows_total: & &1.rows,
          koma_model_node_forwards_saved_total: &(&1.rows - &1.forwards),
          koma_model_node_batch_rows: & &1.last_batch,
          koma_model_node_step_seconds: fn stats -> stats.step_ms / 1000 end,
          koma_model_node_memory_bytes: & &1.memory_bytes,
          koma_model_node_device_memory_bytes: & &1.device_memory_bytes
        ],
        into: %{},
        do: {metric, for({labels, stats} <- told, do: {labels, value.(stats)})}
  end

  defp sockets, do: %{koma_sockets: [{[], Sockets.count()}]}

  defp connections do
    %{guests: guests, known: known, most: most} = Connections.count()

    %{
      koma_connections: [{["guest"], guests}, {["known"], known}],
      koma_connections_limit: [{[], most}],
      koma_file_descriptors_limit: [{[], Descriptors.limit()}]
    }
  end

  defp channels do
    %{active: joined} = DynamicSupervisor.count_children(Koma.Channel.Supervisor)
    %{koma_channels: [{[], joined}]}
  end

  defp cache do
    %{results: results, bytes: bytes} = Cache.size(@queue_ms)
    %{koma_cache_results: [{[], results}], koma_cache_bytes: [{[], bytes}]}
  end

  defp redis do
    if Redis.configured?() do
      open = Map.fetch!(%{closed: 0, half_open: 0.5, open: 1}, Redis.Connection.breaker())
      up = if Redis.up?(), do: 1, else: 0
      %{koma_redis_up: [{[], up}], koma_redis_breaker_open: [{[], open}]}
    else
      %{}
    end
  end

  defp beam do
    memory = :erlang.memory()
    {uptime_ms, _since_last} = :erlang.statistics(:wall_clock)

    %{
      koma_beam_memory_bytes: for(kind <- @memory, do: {[Atom.to_string(kind)], memory[kind]}),
      koma_beam_processes: [{[], :erlang.system_info(:process_count)}],
      koma_beam_ports: [{[], :erlang.system_info(:port_count)}],
      koma_beam_tables: [{[], length(:ets.all())}],
      koma_beam_table_entries: entries(),
      koma_beam_run_queue: [{[], :erlang.statistics(:total_run_queue_lengths)}],
      koma_beam_uptime_seconds: [{[], uptime_ms / 1000}]
    }
  end

  # Tables of one name count together; one may go between the questions.
  defp entries do
    sizes =
      for table <- :ets.all(), size = :ets.info(table, :size), is_integer(size) do
        {inspect(:ets.info(table, :name)), size}
      end

    for {name, sizes} <- Enum.group_by(sizes, &elem(&1, 0), &elem(&1, 1)),
        do: {[name], Enum.sum(sizes)}
  end
end
