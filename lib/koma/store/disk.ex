defmodule Koma.Store.Disk do
  @moduledoc """
  The jobs of this gateway in one append-only journal (`jobs/journal`) of accepted jobs and events.

  An own journal rather than DETS or Mnesia, because "accepted means stored" needs a sync per
  acceptance that many acceptances can share, and because a killed BEAM must leave a file that
  opens at once: DETS rebuilds its file after a crash and has no shared sync, and Mnesia ties its
  files to the name of the peer and does not sync on commit.

  **When is it on disk?** An acceptance and the end of a job are synced (`fdatasync`) before
  anyone is told or can read it. The events between are written before anyone is told, but not synced: they survive the
  death of the BEAM, and after a power cut the job is run again from its acceptance.

  **Disk full, or the disk fails**: acceptances are refused with `storage_full` and the half record is cut off;
  events of running jobs wait in memory (`:later`) and are told when they are written, ends when they are synced.
  After a sync that failed nobody knows which bytes are on the disk, also if a later one succeeds: the
  journal takes nothing more until all of it has been written anew, to another file.

  **Damage**: what does not add up is skipped (`Koma.Store.Journal`); the damaged file is kept aside
  as `journal.damaged-<time>`, what was lost is logged and counted. Entries of a kind that only a newer
  version knows are carried along.
  """
  use GenServer
  require Logger

  alias Koma.{Error, Options, Telemetry}
  alias Koma.Job.{Followers, Record}
  alias Koma.Store.{Backend, Folder, Journal, JournalFile, Memory, Replay, Syncer}

  @behaviour Backend

  # Calls that share a write; some kilobytes each.
  @batch 64

  # To write what could not be written, once there is room again or the disk answers.
  @retry_ms 1_000

  # `syncs`: what is written and under way to the disk, by write; `late`: events that are not even
  # written, the latest first; `broken`: why nothing more is written to this file.
  defstruct [:path, :file, :syncer, :size, :compact_at, :retention, :broken, :timer] ++
              [next: 0, syncs: %{}, late: [], unknown: []]

  @doc "Opens the journal. Options: `:dir`, `:retention_jobs`, `:journal_bytes`, and `:sync` (`t:Koma.Store.Syncer.sync/0`)."
  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(options), do: GenServer.start_link(__MODULE__, options, name: __MODULE__)

  @impl Backend
  def children(%Options{} = options) do
    jobs = [
      dir: Path.join(options.data_dir, "jobs"),
      retention_jobs: options.retention_jobs,
      journal_bytes: options.journal_bytes
    ]

    [{__MODULE__, jobs}]
  end

  @impl Backend
  def ready, do: call(:ready)

  @impl Backend
  def accept(%Record{} = record, max_jobs) do
    with {:error, reason} <- call({:accept, record, max_jobs}), do: {:error, refused(reason)}
  end

  @impl Backend
  def accept_ended(%Record{} = record, events) do
    with {:error, reason} <- call({:accept_ended, record, events}), do: {:error, refused(reason)}
  end

  @impl Backend
  def append(happened) do
    outcome = call({:append, happened})
    Enum.map(happened, fn _event -> outcome end)
  end

  @impl Backend
  def forget(ids) do
    with {:error, _logged} <- call({:forget, ids}), do: :ok
  end

  @impl Backend
  def read(_id, _after_seq), do: :error

  @impl Backend
  def watch(_id, _seq), do: :ok

  @impl Backend
  def list(key, keep?, limit) do
    fn record -> record.key == key and keep?.(record) end |> Memory.list() |> Enum.take(limit)
  end

  @impl Backend
  def all, do: {:ok, Memory.list(fn _record -> true end)}

  @impl Backend
  def owner(id), do: with({:ok, _record} <- Memory.fetch(id), do: :here)

  defp call(request), do: GenServer.call(__MODULE__, request, :infinity)

  @impl GenServer
  def init(options) do
    path = options |> Keyword.fetch!(:dir) |> Path.join("journal")
    Folder.make!(Path.dirname(path))

    case JournalFile.read(path) do
      {:ok, replay} -> {:ok, recover(path, replay, options)}
      {:error, sentence} -> {:stop, sentence}
    end
  end

  defp recover(path, %Replay{report: report} = replay, options) do
    retention = Keyword.fetch!(options, :retention_jobs)
    Memory.create(Replay.jobs(replay))
    Memory.forget_beyond(retention)
    :ok = Folder.touch(path)
    size = first_size(path, JournalFile.rewrite(path, replay.unknown, report.damaged), report)
    JournalFile.tell(replay, path)
    {:ok, syncer} = Syncer.start_link(path, Keyword.get(options, :sync, &:file.datasync/1))
    compact_at = max(Keyword.fetch!(options, :journal_bytes), 2 * size)
    state = %__MODULE__{path: path, file: JournalFile.open(path), syncer: syncer, size: size}
    %{state | compact_at: compact_at, retention: retention, unknown: replay.unknown}
  end

  # Without room for a new file the old one, cut to its sound part, goes on.
  defp first_size(_path, {:ok, size}, _report), do: size

  defp first_size(path, {:error, _told}, %{sound: sound}) do
    JournalFile.cut(path, sound)
    sound
  end

  # Whoever called meanwhile takes part: many entries are one write, and one trip to a thread that
  # may wait for the disk. Their order is that in which they came.
  @impl GenServer
  def handle_call(:ready, _from, state), do: {:reply, :ok, state}

  def handle_call(request, from, state) do
    {:noreply, commit([{request, from} | waiting(@batch - 1)], state)}
  end

  defp waiting(0), do: []

  defp waiting(left) do
    receive do
      {:"$gen_call", from, request} when request != :ready ->
        [{request, from} | waiting(left - 1)]
    after
      0 -> []
    end
  end

  defp commit(calls, state) do
    {late, calls} = Enum.split_with(calls, &late?(&1, state))
    # A place is taken before the write, so that those of one batch do not share the last one.
    {admitted, refused} = Enum.split_with(calls, &admit/1)
    for {_request, from} <- refused, do: GenServer.reply(from, :too_many)
    state = Enum.reduce(late, state, &put_late/2)

    if state.broken,
      do: not_written(admitted, state.broken, state),
      else: write_calls(admitted, state)
  end

  # The events of a job are written in their order.
  defp late?({{:append, [{%Record{id: id}, _event} | _]}, _from}, state) do
    state.broken != nil or Memory.late?(id)
  end

  defp late?(_other_call, _state), do: false

  defp admit({{:accept, record, max_jobs}, _from}), do: Memory.admit(record, max_jobs)
  defp admit(_other_call), do: true

  defp write_calls([], state), do: state

  defp write_calls(calls, state) do
    case write(Enum.map(calls, fn {request, _from} -> entry(request) end), state) do
      {:ok, state} ->
        calls |> written(state) |> compact_if_large()

      # Part of it may fit.
      {:error, _reason, state} when length(calls) > 1 ->
        Enum.reduce(calls, state, &write_calls([&1], &2))

      {:error, reason, state} ->
        not_written(calls, reason, state)
    end
  end

  defp write(entries, state) do
    case :file.write(state.file, entries) do
      :ok ->
        {:ok, %{state | size: state.size + IO.iodata_length(entries)}}

      {:error, reason} ->
        JournalFile.cut(state.path, state.size)
        {:error, reason, state}
    end
  end

  # Events between need not be on the disk to be told.
  defp written(calls, state) do
    {certain, between} = Enum.split_with(calls, fn {request, _from} -> synced?(request) end)

    for {{:append, happened}, from} <- between do
      Memory.remember(happened)
      GenServer.reply(from, :ok)
    end

    if certain == [], do: state, else: sync(certain, state)
  end

  defp synced?({:append, happened}), do: Record.ended?(last(happened))
  defp synced?(_other), do: true

  defp sync(calls, %{next: next} = state) do
    Syncer.sync(state.syncer, next)
    %{state | next: next + 1, syncs: Map.put(state.syncs, next, calls)}
  end

  @impl GenServer
  def handle_info({:synced, writes, result}, state), do: {:noreply, synced(writes, result, state)}
  def handle_info(:retry, state), do: {:noreply, retry(%{state | timer: nil})}

  defp synced(writes, result, state) do
    {calls, syncs} = Map.split(state.syncs, writes)
    calls = Enum.flat_map(writes, &Map.fetch!(calls, &1))
    state = %{state | syncs: syncs}

    case result do
      :ok -> Enum.reduce(calls, state, &stored/2)
      {:error, reason} -> not_written(calls, reason, break(state, reason))
    end
  end

  # Stored: from now on it is there for everybody, and may be told.
  defp stored({request, from}, state) do
    state = put(request, state)
    if from, do: GenServer.reply(from, :ok)
    if ends?(request), do: Memory.forget_beyond(state.retention)
    state
  end

  defp put({:late, happened}, state), do: tell_late(happened, state)

  defp put({:accept, record, _max_jobs}, state),
    do: with(:ok <- Memory.put(record, []), do: state)

  defp put({:accept_ended, record, events}, state),
    do: with(:ok <- Memory.put(record, events), do: state)

  defp put({:append, happened}, state), do: with(:ok <- Memory.remember(happened), do: state)

  defp put({:forget, ids}, state) do
    Enum.each(ids, &Memory.forget_finished/1)
    state
  end

  # --- what cannot be stored now

  # An error of a sync is not an error of the next one, though bytes may be lost: only a new file is trusted.
  defp break(state, reason) do
    Logger.error(
      "job journal: not brought to the disk: #{:file.format_error(reason)}; no jobs are accepted"
    )

    Telemetry.execute([:koma, :store, :sync_failed], %{count: 1}, %{reason: reason})
    retry_later(%{state | broken: reason})
  end

  # In the order of the calls; what was late before stays before what is late now.
  defp not_written(calls, reason, state) do
    {again, calls} = Enum.split_with(calls, &match?({{:late, _happened}, nil}, &1))
    again = for {{:late, happened}, nil} <- Enum.reverse(again), do: happened
    state = %{state | late: state.late ++ again}
    Enum.reduce(calls, state, &refuse(&1, reason, &2))
  end

  defp refuse({{:append, _happened}, _from} = call, reason, state) do
    if state.late == [],
      do: Logger.error("job journal: #{:file.format_error(reason)}; events wait in memory")

    put_late(call, state)
  end

  # What is to be forgotten is forgotten, but without room for that it comes back after a restart,
  # and the next pass forgets it again.
  defp refuse({request, from}, reason, state) do
    case request do
      {:forget, ids} -> Enum.each(ids, &Memory.forget_finished/1)
      {:accept, record, _max_jobs} -> Memory.leave(record)
      {:accept_ended, _record, _events} -> :ok
    end

    GenServer.reply(from, {:error, reason})
    state
  end

  defp put_late({{:append, happened}, from}, state) do
    record = last(happened)
    Memory.put_later(record.id, record)
    GenServer.reply(from, :later)
    retry_later(%{state | late: [happened | state.late]})
  end

  defp retry_later(%{timer: nil} = state) do
    %{state | timer: Process.send_after(self(), :retry, @retry_ms)}
  end

  defp retry_later(state), do: state

  defp retry(%{broken: nil} = state), do: write_late(state)

  defp retry(state) do
    case rewrite(state) do
      {:ok, state} -> write_late(%{state | broken: nil})
      {:error, _told} -> retry_later(state)
    end
  end

  defp write_late(%{late: []} = state), do: state

  defp write_late(%{late: late} = state) do
    late = Enum.reverse(late)

    case write(Enum.map(late, &entry({:append, &1})), state) do
      {:ok, state} ->
        sync(for(happened <- late, do: {{:late, happened}, nil}), %{state | late: []})

      {:error, _told, state} ->
        retry_later(state)
    end
  end

  defp tell_late(happened, state) do
    %Record{id: id} = record = last(happened)
    Memory.remember(happened)
    # Later ones of the job may wait: they were put there after these.
    if {:ok, record} == Memory.latest(id), do: Memory.put_later(id, nil)
    Followers.tell(id, for({_record, event} <- happened, do: event))
    if Record.ended?(record), do: Followers.ended(id)
    state
  end

  defp entry({:accept, record, _max_jobs}), do: Journal.encode({:accepted, record})
  defp entry({:accept_ended, record, events}), do: Journal.encode({:job, record, events})

  defp entry({:append, happened}) do
    for {record, event} <- happened, do: Journal.encode({:event, record.id, event})
  end

  defp entry({:forget, ids}), do: Journal.encode({:forgotten, ids})

  defp refused(:enospc), do: Error.new("storage_full", "The disk that holds the jobs is full")

  defp refused(reason) do
    Error.new("storage_full", "The job cannot be stored: #{:file.format_error(reason)}")
  end

  defp ends?({:accept_ended, _record, _events}), do: true
  defp ends?({kind, happened}) when kind in [:append, :late], do: Record.ended?(last(happened))
  defp ends?(_accept_or_forget), do: false

  defp last(happened) do
    {record, _event} = List.last(happened)
    record
  end

  defp compact_if_large(%{size: size, compact_at: at} = state) when size < at, do: state

  defp compact_if_large(state) do
    case rewrite(state) do
      {:ok, state} -> state
      {:error, _told} -> %{state | compact_at: 2 * state.size}
    end
  end

  # What is under way to the disk is not in memory yet.
  defp rewrite(%{syncs: syncs} = state) when syncs != %{} do
    receive do: ({:synced, writes, result} -> rewrite(synced(writes, result, state)))
  end

  defp rewrite(state) do
    with {:ok, size} <- JournalFile.rewrite(state.path, state.unknown, []) do
      _closed = :file.close(state.file)
      :ok = Syncer.reopen(state.syncer, state.path)
      measured = %{bytes_before: state.size, bytes_after: size}
      Telemetry.execute([:koma, :store, :compacted], measured, %{})
      compact_at = max(state.compact_at, 2 * size)
      {:ok, %{state | file: JournalFile.open(state.path), size: size, compact_at: compact_at}}
    end
  end
end
