defmodule Koma.Store.Redis.Entry do
  @moduledoc "Something that is to be written to Redis, and who waits for it. Pure but for the memory it reads."

  alias Koma.Job.{Event, Record}
  alias Koma.{Redis, Store}
  alias Koma.Store.Memory

  @enforce_keys [:kind]
  defstruct [:kind, :record, :event, :from, events: [], ids: []]

  @typedoc """
  `accept` a job, with events when it has ended already; `append` an event; `finish`: the event
  ends the job; `restore` a job of which Redis may know less than this gateway; `rewrite` one
  that it has lost or damaged, whatever it knows; `discard` an acceptance of unknown outcome;
  `forget` finished jobs.
  """
  @type kind :: :accept | :append | :finish | :restore | :rewrite | :discard | :forget
  @type t :: %__MODULE__{
          kind: kind,
          record: Record.t() | nil,
          event: Event.t() | nil,
          from: GenServer.from() | nil,
          events: [Event.t()],
          ids: [String.t()]
        }

  # After these the record differs in its number only.
  @slight ~w(progress token)

  @doc "The job that it is about, if it is about one."
  @spec id(t) :: String.t() | nil
  def id(%__MODULE__{record: nil}), do: nil
  def id(%__MODULE__{record: record}), do: record.id

  @doc "The command that writes it; `retention` is how many finished jobs stay."
  @spec command(t, non_neg_integer) :: Redis.command()
  def command(%__MODULE__{kind: :append, record: record, event: event}, _retention) do
    blob = if event.type in @slight, do: "", else: :erlang.term_to_binary(record)
    event = :erlang.term_to_binary(event)
    Redis.script(:append, fence(record) ++ [record.seq, event, blob])
  end

  def command(%__MODULE__{kind: :accept} = entry, retention) do
    put(entry.record, entry.events, retention, create: 1)
  end

  def command(%__MODULE__{kind: :finish, record: record, events: events}, retention) do
    put(record, events, retention, create: 0)
  end

  def command(%__MODULE__{kind: :restore, record: record}, retention) do
    put(record, Memory.events(record.id, 0), retention, create: 1)
  end

  def command(%__MODULE__{kind: :rewrite, record: record}, retention) do
    put(record, Memory.events(record.id, 0), retention, create: 2)
  end

  def command(%__MODULE__{kind: :discard, record: record}, _retention) do
    Redis.script(:discard, fence(record))
  end

  def command(%__MODULE__{kind: :forget, ids: ids}, _retention), do: Redis.script(:forget, ids)

  defp fence(record), do: [record.id, Store.Redis.gateway(), record.epoch]

  defp put(record, events, retention, create: create) do
    fields = [
      record.seq,
      :erlang.term_to_binary(record),
      record.model,
      record.key || "",
      record.created_at,
      record.finished_at || "",
      if(Record.ended?(record), do: Memory.pack_events(events), else: ""),
      retention,
      create
    ]

    listed = if Record.ended?(record), do: [], else: Enum.map(events, &:erlang.term_to_binary/1)
    Redis.script(:put, fence(record) ++ fields ++ listed)
  end
end
