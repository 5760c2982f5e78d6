defmodule Koma.Store.Memory do
  @moduledoc """
  The jobs of this gateway in memory (ETS, read by anyone, written by the process that made the
  tables): the records, the events of live jobs, and the packed events of finished ones.

  Here is what is stored. What the store has taken but could not write yet (`later`) is apart:
  nobody but the job's own process knows of it. Until everything that was stored before is here,
  there is no table of records: who asks for a job meanwhile fails, and is not told that there is none.
  """

  alias Koma.Job.{Event, Record}
  alias Koma.Store.{Owners, Replay}

  @records Koma.Store.Memory.Records
  @restored Koma.Store.Memory.Restored
  @events Koma.Store.Memory.Events
  @finished Koma.Store.Memory.Finished
  @later Koma.Store.Memory.Later
  @live Koma.Store.Memory.Live

  @doc "Makes the tables, which are those of the calling process, with the jobs that were stored."
  @spec create([Replay.job()]) :: :ok
  def create(jobs) do
    for table <- [@restored, @live, @later], do: create_table(table, :set)
    for table <- [@events, @finished], do: create_table(table, :ordered_set)
    :ok = Owners.open_index()
    Enum.each(jobs, &restore/1)
    @records = :ets.rename(@restored, @records)
    :ok
  end

  defp create_table(table, kind) do
    ^table = :ets.new(table, [kind, :named_table, :protected, read_concurrency: true])
  end

  defp restore({record, events}) do
    unless Record.ended?(record), do: admit(record, nil)
    put(@restored, record, events)
  end

  @doc "Reads a job as it is stored."
  @spec fetch(String.t()) :: {:ok, Record.t()} | :error
  def fetch(id), do: lookup(@records, id)

  @doc "Reads a job as its process knows it: with the events that are to be stored yet."
  @spec latest(String.t()) :: {:ok, Record.t()} | :error
  def latest(id), do: with(:error <- lookup(@later, id), do: fetch(id))

  defp lookup(table, id) do
    case :ets.lookup(table, id) do
      [{^id, record}] -> {:ok, record}
      [] -> :error
    end
  end

  @doc "The stored events of a job after a number, in order."
  @spec events(String.t(), non_neg_integer) :: [Event.t()]
  def events(id, after_seq) do
    case :ets.lookup(@events, {id, :packed}) do
      [{_key, packed}] -> unpack(packed, after_seq)
      [] -> :ets.select(@events, [{{{id, :"$1"}, :"$2"}, later_than(after_seq), [:"$2"]}])
    end
  end

  defp later_than(seq), do: [{:is_integer, :"$1"}, {:>, :"$1", seq}]

  # Below this, compressing costs more time than the memory is worth.
  @small 4_096

  @doc "Events as one binary: those of a finished job are only read again, if at all."
  @spec pack_events([Event.t()]) :: binary
  def pack_events(events) do
    packed = :erlang.term_to_binary(events)
    if byte_size(packed) < @small, do: packed, else: :erlang.term_to_binary(events, [:compressed])
  end

  @doc "The events after a number of such a binary."
  @spec unpack(binary, non_neg_integer) :: [Event.t()]
  def unpack(packed, after_seq) do
    for event <- :erlang.binary_to_term(packed), event.seq > after_seq, do: event
  end

  @doc "How many jobs of a key have not ended."
  @spec live(key :: String.t() | nil) :: non_neg_integer
  def live(key) do
    case :ets.lookup(@live, key) do
      [{^key, jobs}] -> jobs
      [] -> 0
    end
  end

  @doc "Takes a place among the live jobs of its key for a job that is to be put here, if one is free."
  @spec admit(Record.t(), max_jobs :: pos_integer | nil) :: boolean
  def admit(%Record{key: key}, max_jobs) do
    free? = max_jobs == nil or live(key) < max_jobs
    if free?, do: count(key, 1)
    free?
  end

  @doc "Gives that place back: the job was not accepted."
  @spec leave(Record.t()) :: :ok
  def leave(%Record{key: key}), do: count(key, -1)

  defp count(key, jobs) do
    _sum = :ets.update_counter(@live, key, jobs, {key, 0})
    :ok
  end

  @doc "How many jobs have not ended, by model and state."
  @spec count_live() :: %{{model :: String.t(), state :: String.t()} => pos_integer}
  def count_live do
    # Only these two fields leave the table: records may be large.
    live = [{:==, {:map_get, :finished_at, :"$1"}, nil}]
    fields = {{{:map_get, :model, :"$1"}, {:map_get, :state, :"$1"}}}
    @records |> :ets.select([{{:_, :"$1"}, live, [fields]}]) |> Enum.frequencies()
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

  @doc "A job that was stored with its events so far, e.g. none; a live one has been admitted."
  @spec put(Record.t(), [Event.t()]) :: :ok
  def put(%Record{} = record, events), do: put(@records, record, events)

  defp put(table, record, events) do
    for event <- events, do: :ets.insert(@events, {{record.id, event.seq}, event})
    :ets.insert(table, {record.id, record})
    Owners.index(record)
    if Record.ended?(record), do: pack(record), else: :ok
  end

  @doc "Events that were stored, oldest first, each with the record that it leaves."
  @spec remember([{Record.t(), Event.t()}, ...]) :: :ok
  def remember([_ | _] = happened) do
    {%Record{} = record, _event} = List.last(happened)
    :ets.insert(@events, for({_record, event} <- happened, do: {{record.id, event.seq}, event}))
    :ets.insert(@records, {record.id, record})
    if Record.ended?(record), do: finish(record), else: :ok
  end

  defp finish(record) do
    count(record.key, -1)
    Owners.index(record)
    pack(record)
  end

  defp pack(%Record{id: id} = record) do
    packed = id |> events(0) |> pack_events()
    forget_events(id)
    :ets.insert(@events, {{id, :packed}, packed})
    :ets.insert(@finished, {{record.finished_at, id}})
    :ok
  end

  @doc "The record with the events that are to be stored yet; `nil`: there are none."
  @spec put_later(String.t(), Record.t() | nil) :: :ok
  def put_later(id, nil), do: with(true <- :ets.delete(@later, id), do: :ok)
  def put_later(id, record), do: with(true <- :ets.insert(@later, {id, record}), do: :ok)

  @doc "Whether there are any."
  @spec late?(String.t()) :: boolean
  def late?(id), do: :ets.member(@later, id)

  @doc "Forgets the oldest finished jobs beyond so many."
  @spec forget_beyond(non_neg_integer) :: :ok
  def forget_beyond(retention) do
    if :ets.info(@finished, :size) > retention do
      {_at, id} = :ets.first(@finished)
      forget_finished(id)
      forget_beyond(retention)
    else
      :ok
    end
  end

  @doc "Forgets a job if it has ended."
  @spec forget_finished(String.t()) :: :ok
  def forget_finished(id) do
    with {:ok, record} <- fetch(id), true <- Record.ended?(record) do
      :ets.delete(@finished, {record.finished_at, id})
      forget(record)
    else
      _live_or_unknown -> :ok
    end
  end

  @doc "Forgets a live job: it is another gateway's."
  @spec drop(Record.t()) :: :ok
  def drop(%Record{} = record) do
    count(record.key, -1)
    :ets.delete(@later, record.id)
    forget(record)
  end

  defp forget(%Record{id: id} = record) do
    Owners.forget(record)
    :ets.delete(@records, id)
    forget_events(id)
  end

  defp forget_events(id) do
    true = :ets.match_delete(@events, {{id, :_}, :_})
    :ok
  end
end
