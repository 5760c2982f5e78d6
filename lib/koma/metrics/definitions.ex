defmodule Koma.Metrics.Definitions do
  @moduledoc """
  Every metric: the one list. It is printed in docs/telemetry.md, where a test holds it to this one.
  """

  defmodule Definition do
    @moduledoc "One metric. `read` metrics are states, asked for at each scrape."
    @enforce_keys [:name, :type, :labels, :help]
    defstruct [:name, :type, :labels, :help, buckets: []]

    @type t :: %__MODULE__{
            name: atom,
            type: :counter | :gauge | :histogram,
            labels: [atom],
            help: String.t(),
            buckets: [number]
          }
  end

  # Waits and runs last from a millisecond (toy, cache) to hours (a long queue of videos on a CPU). These are
  # the preferred numbers of ISO 3, twenty a decade: no bound is more than a seventh above the one
  # before, so a quantile that is read from the buckets is at most 15 % wrong.
  @decade [100, 112, 125, 140, 160, 180, 200, 224, 250, 280] ++
            [315, 355, 400, 450, 500, 560, 630, 710, 800, 900]
  @microseconds for power <- 1..7, step <- @decade, do: step * Integer.pow(10, power)
  @seconds for us <- @microseconds,
               do: if(rem(us, 1_000_000) == 0, do: div(us, 1_000_000), else: us / 1_000_000)

  # Prometheus gets every other one, with 1, 2 and 5 of each decade among them: it keeps a series for each.
  @told_every 2

  # name, type, labels, help
  @definitions [
    # jobs
    {:koma_jobs_accepted_total, :counter, [:family, :task], "Jobs accepted."},
    {:koma_jobs_refused_total, :counter, [:family, :code],
     "Requests refused; family is empty where none was found."},
    {:koma_jobs_ended_total, :counter, [:family, :task, :state, :code],
     "Jobs ended; code is empty for those that completed."},
    {:koma_job_retries_total, :counter, [:family, :code],
     "Attempts lost, after which jobs wait again."},
    {:koma_jobs, :gauge, [:family, :state], "Jobs that have not ended."},
    {:koma_job_queue_wait_seconds, :histogram, [:family],
     "Time in the queue before an attempt started."},
    {:koma_job_duration_seconds, :histogram, [:family, :state],
     "Time from the acceptance of a job to its end."},
    # queues
    {:koma_queue_jobs, :gauge, [:family], "Jobs that wait in the queue."},
    {:koma_queue_oldest_wait_seconds, :gauge, [:family],
     "How long the job has waited that joined the queue first; 0 while nobody waits."},
    {:koma_queue_paused, :gauge, [:family], "1 while an operator has paused the queue, else 0."},
    # model nodes
    {:koma_model_node_up, :gauge, [:family, :node],
     "1 while the model node can take jobs, else 0."},
    {:koma_model_node_deaths_total, :counter, [:family, :node, :code],
     "Processes of the model node that are gone."},
    {:koma_model_node_restarts_total, :counter, [:family, :node],
     "Processes started in place of one that is gone."},
    {:koma_model_node_load_seconds, :gauge, [:family, :node],
     "Time from the start of the latest process until it could take jobs."},
    {:koma_model_node_slots, :gauge, [:family, :node], "Jobs that can run at the same time."},
    {:koma_model_node_running, :gauge, [:family, :node], "Jobs that run."},
    {:koma_model_node_forwards_total, :counter, [:family, :node], "Forward passes."},
    {:koma_model_node_rows_total, :counter, [:family, :node],
     "Rows of forward passes: the forward passes that jobs would have taken one by one. " <>
       "Rows by forwards is the mean batch size."},
    {:koma_model_node_forwards_saved_total, :counter, [:family, :node],
     "Rows less forwards: the forward passes saved by sharing."},
    {:koma_model_node_batch_rows, :gauge, [:family, :node], "Rows of the latest forward pass."},
    {:koma_model_node_step_seconds, :gauge, [:family, :node], "Time of the latest forward pass."},
    {:koma_model_node_memory_bytes, :gauge, [:family, :node], "Resident memory of the process."},
    {:koma_model_node_device_memory_bytes, :gauge, [:family, :node],
     "Memory that it holds on its accelerator."},
    # edge
    {:koma_access_refused_total, :counter, [:code],
     "Requests refused for want of a known API key, or by a limit of theirs."},
    {:koma_connections, :gauge, [:who],
     "Connections of clients: of guests, who have shown no key yet, and of known callers."},
    {:koma_connections_limit, :gauge, [], "How many there may be."},
    {:koma_connections_refused_total, :counter, [:bound],
     "Connections refused or closed because a bound was reached, that of all, of one address or of guests."},
    {:koma_file_descriptors_limit, :gauge, [],
     "Files and sockets that the server may have open."},
    {:koma_sockets, :gauge, [], "WebSockets that are open."},
    {:koma_sockets_opened_total, :counter, [], "WebSockets opened."},
    {:koma_sockets_closed_total, :counter, [:reason], "WebSockets closed."},
    {:koma_channels, :gauge, [], "Topics that are joined."},
    {:koma_channels_joined_total, :counter, [:topic],
     "Topics joined, by what stands before the colon."},
    {:koma_pipelines_ended_total, :counter, [:state], "Pipelines ended."},
    # store
    {:koma_artifacts_stored_total, :counter, [:status], "Artifacts stored, created or existed."},
    {:koma_artifacts_stored_bytes_total, :counter, [], "Bytes of artifacts that were new."},
    {:koma_artifacts_read_bytes_total, :counter, [], "Bytes of artifacts sent to clients."},
    {:koma_artifacts_collected_bytes_total, :counter, [],
     "Bytes of artifacts that were deleted."},
    {:koma_cache_requests_total, :counter, [:result],
     "Requests looked up among earlier results, and, of the misses, those that joined a run, " <>
       "and those that were found among the results of other gateways."},
    {:koma_cache_results, :gauge, [], "Results that equal requests would be answered with."},
    {:koma_cache_bytes, :gauge, [], "What these take."},
    {:koma_store_sync_failures_total, :counter, [],
     "How often the journal could not be brought to the disk."},
    {:koma_store_damaged_places_total, :counter, [:kind],
     "Damaged places found in the journal and in files of pipelines."},
    {:koma_store_damaged_bytes_total, :counter, [:kind], "What these took."},
    # Redis, where one is configured
    {:koma_redis_up, :gauge, [], "1 while Redis answers, else 0."},
    {:koma_redis_breaker_open, :gauge, [],
     "Circuit breaker: 0 closed, 0.5 while it is tried again, 1 open."},
    {:koma_redis_round_trip_seconds, :histogram, [:outcome],
     "Time until Redis answered, or until that was given up."},
    {:koma_redis_failures_total, :counter, [], "How often Redis went down."},
    {:koma_store_adopted_total, :counter, [], "Jobs of gateways that were gone, taken over."},
    {:koma_store_fenced_total, :counter, [], "Jobs that another gateway has taken over."},
    {:koma_store_quarantined_total, :counter, [],
     "Keys of Redis that could not be read and lie in quarantine, as this gateway counts them."},
    # the road
    {:koma_road_spans_total, :counter, [:part],
     "Parts of the road that jobs went; see the event of the same name."},
    {:koma_road_microseconds_total, :counter, [:part], "Time in them, in µs."},
    {:koma_cluster_peers, :gauge, [], "Other peers that are connected and understood."},
    {:koma_cluster_losses_total, :counter, [], "How often a peer was lost."},
    {:koma_cluster_refusals_total, :counter, [],
     "Jobs that a peer refused, as another gateway was faster; they wait again."},
    {:koma_cluster_fetched_bytes_total, :counter, [],
     "Bytes of artifacts that were fetched from other peers."},
    # the BEAM
    {:koma_beam_memory_bytes, :gauge, [:kind], "Memory of the gateway."},
    {:koma_beam_processes, :gauge, [], "Processes of the BEAM."},
    {:koma_beam_ports, :gauge, [], "Ports of the BEAM."},
    {:koma_beam_tables, :gauge, [], "Tables (ETS) of the BEAM."},
    {:koma_beam_table_entries, :gauge, [:table], "Entries of these, by their name."},
    {:koma_beam_run_queue, :gauge, [], "Processes of the BEAM that are ready to run and wait."},
    {:koma_beam_uptime_seconds, :gauge, [], "Time since the gateway was started."}
  ]

  @doc "The list."
  @spec all() :: [Definition.t()]
  def all do
    for {name, type, labels, help} <- @definitions do
      buckets = if type == :histogram, do: Enum.take_every(@seconds, @told_every), else: []
      %Definition{name: name, type: type, labels: labels, help: help, buckets: buckets}
    end
  end

  @doc "The upper bounds of the buckets in which every histogram counts, in seconds."
  @spec seconds() :: [number]
  def seconds, do: @seconds

  @doc "Every how many of these bounds one is told to Prometheus, from the first on."
  @spec told_every() :: pos_integer
  def told_every, do: @told_every

  @doc "The table for the documentation: one row per metric."
  @spec to_markdown() :: String.t()
  def to_markdown do
    rows =
      for {name, type, labels, help} <- @definitions do
        "| `#{name}` | #{type} | #{names(labels)} | #{help} |"
      end

    ["| metric | type | labels | meaning |", "| --- | --- | --- | --- |"]
    |> Enum.concat(rows)
    |> Enum.join("\n")
  end

  defp names([]), do: "–"
  defp names(labels), do: Enum.map_join(labels, ", ", &"`#{&1}`")
end
