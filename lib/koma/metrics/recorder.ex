defmodule Koma.Metrics.Recorder do
  @moduledoc "Telemetry events to counters and histograms. Runs in the process that executes them."

  alias Koma.Metrics.Table

  @doc "The events that are counted; the others tell nothing that is not in these or in a gauge."
  @spec events() :: [Koma.Telemetry.event()]
  def events do
    [
      [:koma, :job, :accepted],
      [:koma, :job, :refused],
      [:koma, :job, :started],
      [:koma, :job, :retrying],
      [:koma, :job, :finished],
      [:koma, :model_node, :down],
      [:koma, :model_node, :restarted],
      [:koma, :access, :refused],
      [:koma, :socket, :opened],
      [:koma, :socket, :closed],
      [:koma, :channel, :joined],
      [:koma, :artifact, :stored],
      [:koma, :artifact, :read],
      [:koma, :pipeline, :ended],
      [:koma, :cache, :hit],
      [:koma, :cache, :miss],
      [:koma, :cache, :join],
      [:koma, :cache, :found],
      [:koma, :store, :collected],
      [:koma, :access, :crowded],
      [:koma, :store, :sync_failed],
      [:koma, :store, :damaged],
      [:koma, :store, :adopted],
      [:koma, :store, :fenced],
      [:koma, :store, :quarantined],
      [:koma, :redis, :changed],
      [:koma, :redis, :answered],
      [:koma, :road, :span],
      [:koma, :cluster, :peer_down],
      [:koma, :cluster, :refused],
      [:koma, :cluster, :fetched]
    ]
  end

  @doc "Counts one event."
  @spec handle(Koma.Telemetry.event(), map, map, nil) :: :ok
  def handle([:koma, place, what], measured, about, nil) do
    count(place, what, measured, about)
  end

  defp count(:job, :accepted, _measured, job) do
    Table.add(:koma_jobs_accepted_total, [job.model, job.task])
  end

  defp count(:job, :refused, _measured, request) do
    Table.add(:koma_jobs_refused_total, [request.model || "", request.code])
  end

  defp count(:job, :started, %{queue_ms: ms}, job) do
    Table.observe_ms(:koma_job_queue_wait_seconds, [job.model], ms)
  end

  defp count(:job, :retrying, _measured, job) do
    Table.add(:koma_job_retries_total, [job.model, job.code])
  end

  defp count(:job, :finished, %{duration_ms: ms}, job) do
    Table.add(:koma_jobs_ended_total, [job.model, job.task, job.state, job.code || ""])
    # The clock of the system may have been set back since.
    Table.observe_ms(:koma_job_duration_seconds, [job.model, job.state], max(ms, 0))
  end

  defp count(:model_node, :down, _measured, node) do
    Table.add(:koma_model_node_deaths_total, [node.family, node.node, node.code])
  end

  defp count(:model_node, :restarted, _measured, node) do
    Table.add(:koma_model_node_restarts_total, [node.family, node.node])
  end

  # Which key it was is not said: whoever reads metrics need not know who the callers are.
  defp count(:access, :refused, _measured, %{code: code}) do
    Table.add(:koma_access_refused_total, [code])
  end

  defp count(:socket, :opened, _measured, _socket), do: Table.add(:koma_sockets_opened_total, [])

  defp count(:socket, :closed, _measured, %{reason: reason}) do
    Table.add(:koma_sockets_closed_total, [Atom.to_string(reason)])
  end

  defp count(:channel, :joined, _measured, %{topic: topic}) do
    Table.add(:koma_channels_joined_total, [topic])
  end

  defp count(:artifact, :stored, %{bytes: bytes}, %{status: status}) do
    Table.add(:koma_artifacts_stored_total, [Atom.to_string(status)])
    if status == :created, do: Table.add(:koma_artifacts_stored_bytes_total, [], bytes)
    :ok
  end

  defp count(:artifact, :read, %{bytes: bytes}, _artifact) do
    Table.add(:koma_artifacts_read_bytes_total, [], bytes)
  end

  defp count(:pipeline, :ended, _measured, %{state: state}) do
    Table.add(:koma_pipelines_ended_total, [state])
  end

  defp count(:cache, result, _measured, _request) do
    Table.add(:koma_cache_requests_total, [Atom.to_string(result)])
  end

  defp count(:access, :crowded, _measured, %{bound: bound}) do
    Table.add(:koma_connections_refused_total, [Atom.to_string(bound)])
  end

  defp count(:store, :sync_failed, _measured, _reason) do
    Table.add(:koma_store_sync_failures_total, [])
  end

  defp count(:store, :damaged, %{places: places, bytes: bytes}, %{kind: kind}) do
    Table.add(:koma_store_damaged_places_total, [Atom.to_string(kind)], places)
    Table.add(:koma_store_damaged_bytes_total, [Atom.to_string(kind)], bytes)
  end

  defp count(:store, :adopted, %{jobs: jobs}, _none) do
    Table.add(:koma_store_adopted_total, [], jobs)
  end

  defp count(:store, :fenced, _measured, _job), do: Table.add(:koma_store_fenced_total, [])

  defp count(:store, :quarantined, %{keys: keys}, _none) do
    Table.add(:koma_store_quarantined_total, [], keys)
  end

  defp count(:redis, :changed, _measured, %{state: state}) do
    if state == :down, do: Table.add(:koma_redis_failures_total, [])
    :ok
  end

  defp count(:redis, :answered, %{duration_ms: ms}, %{outcome: outcome}) do
    Table.observe_ms(:koma_redis_round_trip_seconds, [Atom.to_string(outcome)], ms)
  end

  defp count(:road, :span, %{us: us}, %{part: part}) do
    labels = [Atom.to_string(part)]
    Table.add(:koma_road_spans_total, labels)
    Table.add(:koma_road_microseconds_total, labels, us)
  end

  defp count(:cluster, :peer_down, _measured, _peer),
    do: Table.add(:koma_cluster_losses_total, [])

  defp count(:cluster, :refused, _measured, _peer),
    do: Table.add(:koma_cluster_refusals_total, [])

  defp count(:cluster, :fetched, %{bytes: bytes}, _artifact) do
    Table.add(:koma_cluster_fetched_bytes_total, [], bytes)
  end

  defp count(:store, :collected, %{bytes: bytes}, _none) do
    Table.add(:koma_artifacts_collected_bytes_total, [], bytes)
  end
end
