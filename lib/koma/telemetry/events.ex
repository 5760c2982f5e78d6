defmodule Koma.Telemetry.Events do
  @moduledoc """
  Every event that is executed, with its measurements and metadata: the one list. It is printed in
  docs/telemetry.md, where a test holds it to this one; another finds each event in the code.

  Times are whole milliseconds, sizes bytes; `count` is 1.
  """

  @type t :: %{
          event: [atom, ...],
          meaning: String.t(),
          measurements: [atom],
          metadata: [atom]
        }

  # event, what has happened, measurements, metadata
  @events [
    {[:koma, :job, :accepted], "A job is stored and will be answered.", [:count],
     [:id, :task, :model]},
    {[:koma, :job, :refused],
     "A request did not become a job; `model` is nil where none was found.", [:count],
     [:model, :code]},
    {[:koma, :job, :started],
     "A model node took the job, after `queue_ms` in the queue since it last joined it.",
     [:queue_ms], [:id, :task, :model, :attempt, :node]},
    {[:koma, :job, :retrying], "An attempt was lost; the job waits again.", [:count],
     [:id, :task, :model, :attempt, :code]},
    {[:koma, :job, :finished],
     "A job ended, so long after its acceptance; `code` is nil when it completed.",
     [:duration_ms], [:id, :task, :model, :state, :code]},
    {[:koma, :queue, :admitted], "A queue promised a place.", [:count], [:model]},
    {[:koma, :queue, :refused], "A queue had no place.", [:count], [:model, :code]},
    {[:koma, :queue, :depth], "So many jobs wait now, after some joined or left.", [:jobs],
     [:model]},
    {[:koma, :queue, :paused], "An operator paused a queue.", [:count], [:model]},
    {[:koma, :queue, :resumed], "An operator let a queue go on.", [:count], [:model]},
    {[:koma, :model_node, :up],
     "A model node can take jobs, so long after the start of its process.", [:load_ms],
     [:node, :family]},
    {[:koma, :model_node, :down],
     "The process of a model node is gone, and with it the attempts of `jobs` jobs.", [:jobs],
     [:node, :family, :code, :reason]},
    {[:koma, :model_node, :restarted],
     "A new process was started; `code` is that of the death before it.", [:count],
     [:node, :family, :code]},
    {[:koma, :model_node, :stats],
     "What a model node told of itself: each second while busy, else each ten; " <>
       "`forwards` and `rows` since the start of its process.",
     [
       :running,
       :waiting,
       :slots,
       :forwards,
       :rows,
       :last_batch,
       :step_ms,
       :memory_bytes,
       :device_memory_bytes
     ], [:node, :family]},
    {[:koma, :access, :refused],
     "A request was refused: no or a wrong key, or a limit of its key.", [:count], [:code]},
    {[:koma, :socket, :opened], "A WebSocket is open.", [:count], []},
    {[:koma, :socket, :closed], "A WebSocket is closed; `reason` is one of a few atoms.",
     [:count], [:reason]},
    {[:koma, :channel, :joined],
     "A topic was joined; `topic` is what stands before the colon: jobs, job, pipeline, lv.",
     [:count], [:topic]},
    {[:koma, :channel, :refused], "A join was refused.", [:count], [:topic, :code]},
    {[:koma, :artifact, :stored],
     "An upload or output is stored; `status` is `existed` if its bytes were there already.",
     [:bytes], [:id, :media_type, :status]},
    {[:koma, :artifact, :read], "So many bytes of an artifact are sent to a client.", [:bytes],
     [:id]},
    {[:koma, :pipeline, :ended], "A pipeline ended, so long after its acceptance.",
     [:duration_ms], [:id, :state]},
    {[:koma, :cache, :hit], "A request was answered from the results of an earlier one.",
     [:count], []},
    {[:koma, :cache, :miss], "A request could have been answered so, had there been a result.",
     [:count], []},
    {[:koma, :cache, :join],
     "A job joined the run of an equal one; it was counted as a miss before.", [:count], []},
    {[:koma, :cache, :found],
     "A request was answered by a result of another gateway; it was counted as a miss before.",
     [:count], []},
    {[:koma, :road, :span],
     "Something on the road of a job took so many µs. Parts hold others: `socket` a frame of a client, `channel` a push and " <>
       "its answer, `job` in it from a request to an accepted job; `queue`, `store` and " <>
       "`scheduler` a call of each; `model_node` from the dispatch of a job to its result, " <>
       "`runtime` of that what its model node tells.", [:us], [:part]},
    {[:koma, :cluster, :peer_up], "Another peer is connected.", [:count], [:peer]},
    {[:koma, :cluster, :peer_down], "It is not any more.", [:count], [:peer]},
    {[:koma, :cluster, :fetched], "An artifact was fetched from another peer.", [:bytes],
     [:id, :peer]},
    {[:koma, :cluster, :refused],
     "A peer refused a job, as another gateway was faster, or it is stopping; the job waits again.",
     [:count], [:peer]},
    {[:koma, :access, :crowded],
     "A bound of connections is reached, `all`, that of one `address` or that of `guests`: a guest was closed, or who came was refused.",
     [:count], [:bound]},
    {[:koma, :store, :compacted], "The journal of jobs was written anew.",
     [:bytes_before, :bytes_after], []},
    {[:koma, :store, :sync_failed],
     "The journal could not be brought to the disk; no jobs are accepted until it is written anew.",
     [:count], [:reason]},
    {[:koma, :store, :damaged],
     "Bytes of a file of the store did not add up and were left out, at so many places; `kind` is journal or pipeline.",
     [:places, :bytes], [:kind]},
    {[:koma, :store, :adopted], "So many jobs of gateways that are gone go on here.", [:jobs],
     []},
    {[:koma, :store, :fenced], "Another gateway has adopted a job of this one.", [:count], [:id]},
    {[:koma, :store, :quarantined],
     "So many more keys of Redis lie in quarantine, as this gateway sees it.", [:keys], []},
    {[:koma, :redis, :changed], "Redis is `up` or `down` from now on; `reason` is nil when up.",
     [:count], [:state, :reason]},
    {[:koma, :redis, :answered],
     "Redis answered some commands with one round trip, or did not: `outcome` is ok, timeout or closed.",
     [:duration_ms, :commands], [:outcome]},
    {[:koma, :store, :collected], "A pass of the collector removed so much.",
     [:jobs, :files, :bytes], []}
  ]

  @doc "The list."
  @spec all() :: [t]
  def all do
    for {event, meaning, measurements, metadata} <- @events do
      %{event: event, meaning: meaning, measurements: measurements, metadata: metadata}
    end
  end

  @doc "Raises `ArgumentError` unless the event is listed and has exactly the listed keys."
  @spec check!([atom, ...], map, map) :: :ok
  def check!(event, measurements, metadata) do
    case List.keyfind(@events, event, 0) do
      nil ->
        raise ArgumentError, "#{inspect(event)} is missing in #{inspect(__MODULE__)}"

      {_event, _meaning, listed, described} ->
        check_keys!(event, "measurements", listed, measurements)
        check_keys!(event, "metadata", described, metadata)
    end
  end

  defp check_keys!(event, what, listed, given) do
    if map_size(given) != length(listed) or not Enum.all?(listed, &is_map_key(given, &1)) do
      raise ArgumentError,
            "#{what} of #{inspect(event)} are #{inspect(Map.keys(given))}, not #{inspect(listed)}"
    end

    :ok
  end

  @doc "The table for the documentation: one row per event."
  @spec to_markdown() :: String.t()
  def to_markdown do
    rows =
      for {event, meaning, measurements, metadata} <- @events do
        "| `#{inspect(event)}` | #{meaning} | #{names(measurements)} | #{names(metadata)} |"
      end

    ["| event | what has happened | measurements | metadata |", "| --- | --- | --- | --- |"]
    |> Enum.concat(rows)
    |> Enum.join("\n")
  end

  defp names([]), do: "–"
  defp names(keys), do: Enum.map_join(keys, ", ", &"`#{&1}`")
end
