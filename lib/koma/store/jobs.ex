defmodule Koma.Store.Jobs do
  @moduledoc """
  The jobs of this peer, on disk and in memory.

  **On disk** there is one append-only journal (`jobs/journal`) of accepted jobs and events. An
  own journal rather than DETS or Mnesia, because "accepted means stored" needs a sync per
  acceptance that many acceptances can share, and because a killed BEAM must leave a file that
  opens at once: DETS rebuilds its file after a crash and has no shared sync, and Mnesia ties its
  files to the name of the peer and does not sync on commit.

  **When is it on disk?** An acceptance and the end of a job are synced (`fdatasync`) before
  anyone is told. The events between are written before anyone is told, but not synced: they survive the
  death of the BEAM, and after a power cut the job is run again from its acceptance.

  **In memory** (ETS, read by anyone) are the records, the events of live jobs, and the packed
  events of finished ones, of which the newest `retention_jobs` are kept.

  **Disk full**: acceptances are refused with `storage_full` and the half record is cut off;
  events of running jobs stay in memory and are written as soon as there is room again.
  """
  use GenServer
  require Logger

  alias Koma.{Error, Telemetry}
  alias Koma.Job.{Event, Record}
  alias Koma.Store.{Journal, Owners, Syncer}

  @records Koma.Store.Jobs.Records
  @events Koma.Store.Jobs.Events
  @finished Koma.Store.Jobs.Finished
  @live Koma.Store.Jobs.Live

  # Calls that share a write; some kilobytes each.
  @batch 64

  defstruct [:path, :file, :syncer, :size, :compact_at, :retention, unwritten: []]

  @doc "Opens the store. Options: `:dir`, `:retention_jobs`, `:journal_bytes`."
  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(options), do: GenServer.start_link(__MODULE__, options, name: __MODULE__)

  @doc """
  Stores a new job; when this returns `:ok` it is on disk. `:too_many` where its key has
  `max_jobs` already that have not ended.
  """
  @spec accept(Record.t(), max_jobs :: pos_integer | nil) ::
          :ok | :too_many | {:error, Error.t()}
  def accept(%Record{} = record, max_jobs \\ nil) do
    with {:error, reason} <- call({:accept, record, max_jobs}), do: {:error, refused(reason)}
  end

  @doc "Stores a job that is accepted and ended in one; when this returns `:ok` it is on disk."
  @spec accept_ended(Record.t(), [Event.t()]) :: :ok | {:error, Error.t()}
  def accept_ended(%Record{} = record, events) do
    with {:error, reason} <- call({:accept_ended, record, events}), do: {:error, refused(reason)}
  end

  @doc "Stores an event and its effect; when this returns, both can be read."
  @spec append(Record.t(), Event.t()) :: :ok
  def append(%Record{} = record, %Event{} = event) do
    with {:error, _logged} <- call({:append, record, event}), do: :ok
  end

  @doc "Forgets finished jobs; when this returns they do not come back after a restart."
  @spec forget([String.t()]) :: :ok
  def forget(ids) do
    with {:error, _logged} <- call({:forget, ids}), do: :ok
  end

  @doc "Reads a job."
  @spec fetch(String.t()) :: {:ok, Record.t()} | :error
  def fetch(id) do
    case :ets.lookup(@records, id) do
      [{^id, record}] -> {:ok, record}
      [] -> :error
    end
  end

  @doc "The events of a job after a number, in order."
  @spec events(String.t(), non_neg_integer) :: [Event.t()]
  def events(id, after_seq) do
    case :ets.lookup(@events, {id, :packed}) do
      [{_key, packed}] ->
        for event <- :erlang.binary_to_term(packed), event.seq > after_seq, do: event

      [] ->
        :ets.select(@events, [
          {{{id, :"$1"}, :"$2"}, [{:is_integer, :"$1"}, {:>, :"$1", after_seq}], [:"$2"]}
        ])
    end
  end

  @doc "How many jobs of a key have not ended."
  @spec live(key :: String.t() | nil) :: non_neg_integer
  def live(key) do
    case :ets.lookup(@live, key) do
      [{^key, jobs}] -> jobs
      [] -> 0
    end
  end

  @doc "How many jobs have not ended, by model and state."
  @spec count_live() :: %{{model :: String.t(), state :: String.t()} => pos_integer}
  def count_live do
    # Only these two fields leave the table: records may be large.
    live = [{:==, {:map_get, :finished_at, :"$1"}, nil}]
    pattern = {:_, :"$1"}
    fields = {{{:map_get, :model, :"$1"}, {:map_get, :state, :"$1"}}}
    @records |> :ets.select([{pattern, live, [fields]}]) |> Enum.frequencies()
  end

  @doc "Every record for which `keep?` is true, newest first."
  @spec list((Record.t() -> boolean)) :: [Record.t()]
  def list(keep?) do
    fn {_id, record}, kept -> if keep?.(record), do: [record | kept], else: kept end
    |> :ets.foldl([], @records)
    |> Enum.sort_by(&{&1.created_at, &1.id}, :desc)
  end

  @doc "Some fields of a job; the others, which may be large, are not copied."
  @spec fields(String.t(), [atom]) :: {:ok, %{atom => term}} | :error
  def fields(id, fields) do
    wanted = Map.new(fields, &{&1, {:map_get, &1, :"$1"}})

    case :ets.select(@records, [{{id, :"$1"}, [], [wanted]}]) do
      [found] -> {:ok, found}
      [] -> :error
    end
  end

  @doc "The latest event of a job that has not ended; `seq` is the one of its record."
  @spec last_event(String.t(), seq :: pos_integer) :: Event.t() | nil
  def last_event(id, seq) do
    case :ets.lookup(@events, {id, seq}) do
      [{_key, event}] -> event
      [] -> nil
    end
  end

  @doc "The ids of the jobs that have ended, the latest first; they are read as they are taken."
  @spec finished() :: Enumerable.t()
  def finished do
    Stream.unfold(:ets.last(@finished), fn
      :"$end_of_table" -> nil
      {_at, id} = key -> {id, :ets.prev(@finished, key)}
    end)
  end

  @doc "The jobs that have not ended, oldest first."
  @spec unfinished() :: [Record.t()]
  def unfinished, do: (&(not Record.ended?(&1))) |> list() |> Enum.reverse()

  defp call(request), do: GenServer.call(__MODULE__, request, :infinity)

  @impl GenServer
  def init(options) do
    for {table, kind} <- [
          {@records, :set},
          {@live, :set},
          {@events, :ordered_set},
          {@finished, :ordered_set}
        ] do
      ^table = :ets.new(table, [kind, :named_table, :protected, read_concurrency: true])
    end

    Owners.open_index()

    path = options |> Keyword.fetch!(:dir) |> Path.join("journal")
    retention = Keyword.fetch!(options, :retention_jobs)
    File.mkdir_p!(Path.dirname(path))
    size = rewrite(path, replay(path, retention))
    {:ok, syncer} = Syncer.start_link(path)
    compact_at = max(Keyword.fetch!(options, :journal_bytes), 2 * size)
    state = %__MODULE__{path: path, file: open(path), syncer: syncer, size: size}
    {:ok, %{state | compact_at: compact_at, retention: retention}}
  end

  # Whoever called meanwhile takes part: many entries are one write, and one trip to a thread that
  # may wait for the disk. Their order is that in which they came.
  @impl GenServer
  def handle_call(request, from, state) do
    {:noreply, commit([{request, from} | waiting(@batch - 1)], state)}
  end

  defp waiting(0), do: []

  defp waiting(left) do
    receive do
      {:"$gen_call", from, request} -> [{request, from} | waiting(left - 1)]
    after
      0 -> []
    end
  end

  defp commit(calls, state) do
    # Events count from now on, whatever becomes of the write.
    for {{:append, record, event}, _from} <- calls, do: remember(record, event)
    # A place is taken before the write, so that those of one batch do not share the last one.
    {admitted, refused} = Enum.split_with(calls, &admit/1)
    for {_request, from} <- refused, do: GenServer.reply(from, :too_many)
    write_calls(admitted, state)
  end

  defp admit({{:accept, record, max_jobs}, _from}) do
    free? = max_jobs == nil or live(record.key) < max_jobs
    if free?, do: count(record.key, 1)
    free?
  end

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

  defp not_written([{{:append, _record, _event} = request, from}], reason, state) do
    if state.unwritten == [],
      do: Logger.error("job journal: #{reason}; events wait in memory")

    GenServer.reply(from, {:error, reason})
    %{state | unwritten: [state.unwritten | entry(request)]}
  end

  # What is to be forgotten is forgotten, but without room for that it comes back after a restart,
  # and the next pass forgets it again.
  defp not_written([{request, from}], reason, state) do
    case request do
      {:forget, ids} -> Enum.each(ids, &forget_finished/1)
      {:accept, record, _max_jobs} -> count(record.key, -1)
      {:accept_ended, _record, _events} -> :ok
    end

    GenServer.reply(from, {:error, reason})
    state
  end

  defp entry({:accept, record, _max_jobs}), do: Journal.encode({:accepted, record})
  defp entry({:accept_ended, record, events}), do: Journal.encode({:job, record, events})
  defp entry({:append, record, event}), do: Journal.encode({:event, record.id, event})
  defp entry({:forget, ids}), do: Journal.encode({:forgotten, ids})

  defp written({{:append, record, _event}, from}, state) do
    if Record.ended?(record),
      do: Syncer.sync(state.syncer, from),
      else: GenServer.reply(from, :ok)
  end

  defp written({request, from}, state) do
    case request do
      {:accept, record, _max_jobs} -> insert(record)
      {:accept_ended, record, events} -> restore({:job, record, events})
      {:forget, ids} -> Enum.each(ids, &forget_finished/1)
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

  defp remember(record, event) do
    :ets.insert(@events, {{record.id, event.seq}, event})
    :ets.insert(@records, {record.id, record})

    if Record.ended?(record) do
      count(record.key, -1)
      pack(record)
    end
  end

  defp insert(record) do
    :ets.insert(@records, {record.id, record})
    Owners.index(record)
  end

  defp count(key, jobs), do: _sum = :ets.update_counter(@live, key, jobs, {key, 0})

  # The events of a finished job are only read again, if at all: packed they take a tenth.
  defp pack(record) do
    Owners.index(record)
    packed = :erlang.term_to_binary(events(record.id, 0), [:compressed])
    forget_events(record.id)
    :ets.insert(@events, {{record.id, :packed}, packed})
    :ets.insert(@finished, {{record.finished_at, record.id}})
  end

  defp retain(state, {request, _from}) do
    if elem(request, 0) in [:append, :accept_ended] and Record.ended?(elem(request, 1)),
      do: forget_beyond(state.retention)

    state
  end

  defp forget_beyond(retention) do
    if :ets.info(@finished, :size) > retention do
      {_at, id} = :ets.first(@finished)
      forget_finished(id)
      forget_beyond(retention)
    end
  end

  defp forget_finished(id) do
    with {:ok, record} <- fetch(id), true <- Record.ended?(record) do
      Owners.forget(record)
      :ets.delete(@finished, {record.finished_at, id})
      :ets.delete(@records, id)
      forget_events(id)
    end
  end

  defp forget_events(id), do: :ets.match_delete(@events, {{id, :_}, :_})

  defp replay(path, retention) do
    case File.read(path) do
      {:ok, bytes} ->
        {_acc, sound} = Journal.fold(bytes, :ok, fn entry, :ok -> restore(entry) end)
        lost = byte_size(bytes) - sound
        if lost > 0, do: Logger.warning("job journal: #{lost} bytes of a torn record are cut off")
        forget_beyond(retention)
        sound

      {:error, :enoent} ->
        File.touch!(path)
        0
    end
  end

  defp restore({:accepted, record}) do
    count(record.key, 1)
    record |> Record.upgrade() |> insert()
  end

  defp restore({:event, id, event}) do
    with {:ok, record} <- fetch(id), do: record |> Record.apply(event) |> remember(event)
    :ok
  end

  defp restore({:forgotten, ids}), do: Enum.each(ids, &forget_finished/1)

  defp restore({:job, record, events}) do
    record = Record.upgrade(record)
    insert(record)
    if not Record.ended?(record), do: count(record.key, 1)
    for event <- events, do: :ets.insert(@events, {{record.id, event.seq}, event})
    if Record.ended?(record), do: pack(record)
    :ok
  end

  defp compact_if_large(%{size: size, compact_at: at} = state) when size < at, do: state

  defp compact_if_large(state) do
    :ok = :file.close(state.file)
    size = rewrite(state.path, state.size)
    :ok = Syncer.reopen(state.syncer, state.path)
    measured = %{bytes_before: state.size, bytes_after: size}
    Telemetry.execute([:koma, :store, :compacted], measured, %{})
    %{state | file: open(state.path), size: size, compact_at: max(state.compact_at, 2 * size)}
  end

  # The new file takes the old one's place only when it is whole and on disk. Without room for it
  # the old one, cut to its sound part, goes on.
  defp rewrite(path, sound) do
    new = path <> ".new"

    case write_all(new) do
      :ok ->
        :ok = File.rename(new, path)
        Koma.Store.Folder.sync(Path.dirname(path))
        File.stat!(path).size

      {:error, reason} ->
        Logger.error("job journal: not compacted: #{reason}")
        _ignored = File.rm(new)
        cut(path, sound)
        sound
    end
  end

  defp write_all(path) do
    {:ok, file} = :file.open(path, [:write, :raw])

    result =
      Enum.reduce_while(Enum.reverse(list(fn _record -> true end)), :ok, fn record, :ok ->
        case :file.write(file, Journal.encode({:job, record, events(record.id, 0)})) do
          :ok -> {:cont, :ok}
          error -> {:halt, error}
        end
      end)

    result = with :ok <- result, do: :file.sync(file)
    :ok = :file.close(file)
    result
  end

  defp open(path) do
    {:ok, file} = :file.open(path, [:append, :raw, :binary])
    file
  end
end
