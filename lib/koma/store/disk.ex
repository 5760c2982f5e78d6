defmodule Koma.Store.Disk do
  @moduledoc """
  The jobs of this gateway in one append-only journal (`jobs/journal`) of accepted jobs and events.

  An own journal rather than DETS or Mnesia, because "accepted means stored" needs a sync per
  acceptance that many acceptances can share, and because a killed BEAM must leave a file that
  opens at once: DETS rebuilds its file after a crash and has no shared sync, and Mnesia ties its
  files to the name of the peer and does not sync on commit.

  **When is it on disk?** An acceptance and the end of a job are synced (`fdatasync`) before
  anyone is told. The events between are written before anyone is told, but not synced: they survive the
  death of the BEAM, and after a power cut the job is run again from its acceptance.

  **Disk full**: acceptances are refused with `storage_full` and the half record is cut off;
  events of running jobs stay in memory and are written as soon as there is room again. They may
  be told all the same: nobody else could have gone on with the job.

  **Damage**: what does not add up is skipped (`Koma.Store.Journal`); the damaged file is kept aside
  as `journal.damaged-<time>`, what was lost is logged and counted. Entries of a kind that only a newer
  version knows are carried along.
  """
  use GenServer
  require Logger

  alias Koma.{Error, Options, Telemetry}
  alias Koma.Job.Record
  alias Koma.Store.{Backend, Damage, Folder, Journal, Memory, Replay, Syncer}

  @behaviour Backend

  # Calls, or jobs of a compaction, that share a write; some kilobytes each.
  @batch 64

  defstruct [:path, :file, :syncer, :size, :compact_at, :retention, unknown: [], unwritten: []]

  @doc "Opens the journal. Options: `:dir`, `:retention_jobs`, `:journal_bytes`."
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
    # Where the disk is full (logged) they are written later, and may be told all the same.
    _written = call({:append, happened})
    Enum.map(happened, fn _event -> :ok end)
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
    retention = Keyword.fetch!(options, :retention_jobs)
    Folder.make!(Path.dirname(path))

    case File.read(path) do
      {:ok, bytes} -> {:ok, recover(path, Replay.read(bytes), retention, options)}
      {:error, :enoent} -> {:ok, recover(path, Replay.read(""), retention, options)}
      {:error, reason} -> {:stop, unreadable(path, reason)}
    end
  end

  defp unreadable(path, reason) do
    "The job journal #{path} cannot be read: #{:file.format_error(reason)}. " <>
      "Move it away to start without its jobs."
  end

  defp recover(path, replay, retention, options) do
    Memory.create(Replay.jobs(replay))
    Memory.forget_beyond(retention)
    :ok = Folder.touch(path)
    size = rewrite(path, replay.unknown, replay.report)
    tell(replay, path)
    {:ok, syncer} = Syncer.start_link(path)
    compact_at = max(Keyword.fetch!(options, :journal_bytes), 2 * size)
    state = %__MODULE__{path: path, file: open(path), syncer: syncer, size: size}
    %{state | compact_at: compact_at, retention: retention, unknown: replay.unknown}
  end

  defp tell(%Replay{report: %{torn: torn}} = replay, path) do
    if torn > 0, do: Logger.warning("job journal: #{torn} bytes of a torn record are cut off")

    if replay.unknown != [] do
      count = length(replay.unknown)
      Logger.warning("job journal: #{count} entries of a newer version are carried along")
    end

    if replay.report.damaged != [] or MapSet.size(replay.lost) > 0, do: tell_damage(replay, path)
  end

  defp tell_damage(%Replay{report: %{damaged: damaged}} = replay, path) do
    Damage.tell(:journal, damaged, """
    job journal: #{length(damaged)} damaged places of #{Damage.bytes(damaged)} bytes are left out; \
    they are kept in #{path}.damaged-*. Of these jobs the acceptance is lost: #{names(replay.lost)}. \
    Of these jobs events are lost, and others stand in for them: #{names(replay.mended)}.\
    """)
  end

  @named 20
  defp names(ids) do
    case Enum.split(ids, @named) do
      {[], []} -> "none"
      {first, []} -> Enum.join(first, ", ")
      {first, more} -> "#{Enum.join(first, ", ")} and #{length(more)} more"
    end
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
    # Events count from now on, whatever becomes of the write.
    for {{:append, happened}, _from} <- calls, do: Memory.remember(happened)
    # A place is taken before the write, so that those of one batch do not share the last one.
    {admitted, refused} = Enum.split_with(calls, &admit/1)
    for {_request, from} <- refused, do: GenServer.reply(from, :too_many)
    write_calls(admitted, state)
  end

  defp admit({{:accept, record, max_jobs}, _from}), do: Memory.admit(record, max_jobs)
  defp admit(_other_call), do: true

  defp write_calls([], state), do: state

  defp write_calls(calls, state) do
    case write(Enum.map(calls, fn {request, _from} -> entry(request) end), state) do
      {:ok, state} ->
        Enum.each(calls, &written(&1, state))
        calls |> Enum.reduce(state, &retain(&2, &1)) |> compact_if_large()

      {:error, reason, state} ->
        not_written(calls, reason, state)
    end
  end

  # Part of it may fit.
  defp not_written([_, _ | _] = calls, _reason, state) do
    Enum.reduce(calls, state, &write_calls([&1], &2))
  end

  defp not_written([{{:append, _happened} = request, from}], reason, state) do
    if state.unwritten == [],
      do: Logger.error("job journal: #{reason}; events wait in memory")

    GenServer.reply(from, {:error, reason})
    %{state | unwritten: [state.unwritten | entry(request)]}
  end

  # What is to be forgotten is forgotten, but without room for that it comes back after a restart,
  # and the next pass forgets it again.
  defp not_written([{request, from}], reason, state) do
    case request do
      {:forget, ids} -> Enum.each(ids, &Memory.forget_finished/1)
      {:accept, record, _max_jobs} -> Memory.leave(record)
      {:accept_ended, _record, _events} -> :ok
    end

    GenServer.reply(from, {:error, reason})
    state
  end

  defp entry({:accept, record, _max_jobs}), do: Journal.encode({:accepted, record})
  defp entry({:accept_ended, record, events}), do: Journal.encode({:job, record, events})

  defp entry({:append, happened}) do
    for {record, event} <- happened, do: Journal.encode({:event, record.id, event})
  end

  defp entry({:forget, ids}), do: Journal.encode({:forgotten, ids})

  defp written({{:append, _happened} = request, from}, state) do
    if ends?(request),
      do: Syncer.sync(state.syncer, from),
      else: GenServer.reply(from, :ok)
  end

  defp written({request, from}, state) do
    case request do
      {:accept, record, _max_jobs} -> Memory.put(record, [])
      {:accept_ended, record, events} -> Memory.put(record, events)
      {:forget, ids} -> Enum.each(ids, &Memory.forget_finished/1)
    end

    Syncer.sync(state.syncer, from)
  end

  # What waited for room goes first, so that the order on disk is the order in which it happened.
  defp write(entries, %{unwritten: unwritten} = state) do
    bytes = [unwritten | entries]

    case :file.write(state.file, bytes) do
      :ok ->
        {:ok, %{state | unwritten: [], size: state.size + IO.iodata_length(bytes)}}

      {:error, reason} ->
        cut(state.path, state.size)
        {:error, reason, state}
    end
  end

  defp cut(path, size) do
    {:ok, file} = :file.open(path, [:read, :write, :raw])
    {:ok, ^size} = :file.position(file, size)
    :ok = :file.truncate(file)
    :ok = :file.close(file)
  end

  defp refused(:enospc), do: Error.new("storage_full", "The disk that holds the jobs is full")
  defp refused(reason), do: Error.new("storage_full", "The job cannot be stored: #{reason}")

  defp retain(state, {request, _from}) do
    if ends?(request), do: Memory.forget_beyond(state.retention)
    state
  end

  defp ends?({:accept_ended, _record, _events}), do: true
  defp ends?({:append, happened}), do: Record.ended?(last(happened))
  defp ends?(_accept_or_forget), do: false

  defp last(happened) do
    {record, _event} = List.last(happened)
    record
  end

  defp compact_if_large(%{size: size, compact_at: at} = state) when size < at, do: state

  defp compact_if_large(state) do
    :ok = :file.close(state.file)
    size = rewrite(state.path, state.unknown, %{sound: state.size, damaged: []})
    :ok = Syncer.reopen(state.syncer, state.path)
    measured = %{bytes_before: state.size, bytes_after: size}
    Telemetry.execute([:koma, :store, :compacted], measured, %{})
    %{state | file: open(state.path), size: size, compact_at: max(state.compact_at, 2 * size)}
  end

  # The new file takes the old one's place only when it is whole and on disk. Without room for it
  # the old one, cut to its sound part, goes on.
  defp rewrite(path, unknown, %{sound: sound, damaged: damaged}) do
    new = path <> ".new"

    with :ok <- write_all(new, unknown),
         :ok <- keep_damaged(path, damaged),
         :ok <- File.rename(new, path) do
      Folder.sync(Path.dirname(path))
      File.stat!(path).size
    else
      {:error, reason} ->
        Logger.error("job journal: not compacted: #{reason}")
        _ignored = File.rm(new)
        cut(path, sound)
        sound
    end
  end

  defp keep_damaged(_path, []), do: :ok
  defp keep_damaged(path, _damaged), do: with({:ok, _aside} <- Damage.keep(path), do: :ok)

  defp write_all(path, unknown) do
    with {:ok, file} <- :file.open(path, [:write, :raw]) do
      jobs = Enum.reverse(Memory.list(fn _record -> true end))

      result =
        with :ok <- Folder.own(path),
             :ok <- jobs |> Enum.chunk_every(@batch) |> write_jobs(file),
             :ok <- :file.write(file, Enum.map(unknown, &Journal.encode/1)),
             do: :file.sync(file)

      :ok = :file.close(file)
      result
    end
  end

  defp write_jobs([], _file), do: :ok

  defp write_jobs([records | later], file) do
    jobs = for record <- records, do: {:job, record, Memory.events(record.id, 0)}
    with :ok <- :file.write(file, Enum.map(jobs, &Journal.encode/1)), do: write_jobs(later, file)
  end

  defp open(path) do
    {:ok, file} = :file.open(path, [:append, :raw, :binary])
    file
  end
end
