defmodule Koma.Store.Jobs do
  @moduledoc """
  The jobs: those of this gateway from memory (`Koma.Store.Memory`), and what is kept of them and
  of others by `Koma.Store.Disk`, or by `Koma.Store.Redis` where a Redis is configured.
  """

  alias Koma.{Error, Options, Store, Telemetry}
  alias Koma.Job.{Event, Record}
  alias Koma.Store.{Backend, Memory}

  @doc "The store that is configured."
  @spec backend() :: module
  def backend, do: if(Options.get().redis, do: Store.Redis, else: Store.Disk)

  @doc """
  Stores a new job; when this returns `:ok` it is stored. `:too_many` where its key has
  `max_jobs` already on this gateway that have not ended.
  """
  @spec accept(Record.t(), max_jobs :: pos_integer | nil) ::
          :ok | :too_many | {:error, Error.t()}
  def accept(%Record{} = record, max_jobs \\ nil) do
    Telemetry.span(:store, fn -> backend().accept(record, max_jobs) end)
  end

  @doc "Stores a job that is accepted and ended in one; when this returns `:ok` it is stored."
  @spec accept_ended(Record.t(), [Event.t()]) :: :ok | {:error, Error.t()}
  def accept_ended(%Record{} = record, events) do
    Telemetry.span(:store, fn -> backend().accept_ended(record, events) end)
  end

  @doc "Stores events of a job and their effects; see `c:Koma.Store.Backend.append/1`."
  @spec append([{Record.t(), Event.t()}, ...]) :: [Backend.outcome()]
  def append([_ | _] = happened) do
    Telemetry.span(:store, fn -> backend().append(happened) end)
  end

  @doc "Forgets finished jobs; when this returns they do not come back after a restart."
  @spec forget([String.t()]) :: :ok
  def forget(ids), do: backend().forget(ids)

  @doc "Reads a job, of any gateway; an error when nobody can tell."
  @spec fetch(String.t()) :: {:ok, Record.t()} | :error | {:error, Error.t()}
  def fetch(id) do
    with {:ok, record, []} <- read(id, :none), do: {:ok, record}
  end

  @doc "Reads a job as its process knows it, with what is to be stored yet."
  @spec latest(String.t()) :: {:ok, Record.t()} | :error
  defdelegate latest(id), to: Memory

  @doc """
  Whether a live job has no process here and needs none: it is another gateway's, or it has ended
  and the end is to be stored yet.
  """
  @spec elsewhere?(Record.t()) :: boolean
  def elsewhere?(%Record{id: id}) do
    case Memory.latest(id) do
      {:ok, record} -> Record.ended?(record)
      :error -> true
    end
  end

  @doc "The events of a job of this gateway after a number, in order."
  @spec events(String.t(), non_neg_integer) :: [Event.t()]
  defdelegate events(id, after_seq), to: Memory

  @doc "Reads a job, of any gateway, with its events after a number; with none for `:none`."
  @spec read(String.t(), non_neg_integer | :none) ::
          {:ok, Record.t(), [Event.t()]} | :error | {:error, Error.t()}
  def read(id, after_seq) do
    case Memory.fetch(id) do
      {:ok, record} -> {:ok, record, known(record, after_seq)}
      :error -> backend().read(id, after_seq)
    end
  end

  defp known(_record, :none), do: []
  # What was stored since the record was read comes another way.
  defp known(%{id: id, seq: seq}, after_seq) do
    id |> Memory.events(after_seq) |> Enum.filter(&(&1.seq <= seq))
  end

  @doc "Has the followers here told of what comes, of a job that another gateway owns."
  @spec watch(String.t(), non_neg_integer) :: :ok
  def watch(id, seq), do: backend().watch(id, seq)

  @doc "How many jobs of a key have not ended on this gateway."
  @spec live(key :: String.t() | nil) :: non_neg_integer
  defdelegate live(key), to: Memory

  @doc "How many jobs of this gateway have not ended, by model and state."
  @spec count_live() :: %{{model :: String.t(), state :: String.t()} => pos_integer}
  defdelegate count_live, to: Memory

  @doc "Every record of this gateway for which `keep?` is true, newest first."
  @spec list((Record.t() -> boolean)) :: [Record.t()]
  defdelegate list(keep?), to: Memory

  @doc "Some fields of a job of this gateway; the others, which may be large, are not copied."
  @spec fields(String.t(), [atom]) :: {:ok, %{atom => term}} | :error
  defdelegate fields(id, fields), to: Memory

  @doc "The latest event of a job here that has not ended; `seq` is the one of its record."
  @spec last_event(String.t(), seq :: pos_integer) :: Event.t() | nil
  defdelegate last_event(id, seq), to: Memory

  @doc "The ids of the jobs that have ended here, the latest first; they are read as they are taken."
  @spec finished() :: Enumerable.t()
  defdelegate finished, to: Memory

  @doc "At most `limit` jobs of an API key, of any gateway, newest first."
  @spec list(String.t() | nil, (Record.t() -> boolean), pos_integer) :: [Record.t()]
  def list(key, keep?, limit), do: backend().list(key, keep?, limit)

  @doc "Every job of every gateway; an error when nobody can tell."
  @spec all() :: {:ok, [Record.t()]} | :error
  def all, do: backend().all()

  @doc "Which gateway owns a job that has not ended: `:here` for this one, `:error` for none."
  @spec owner(String.t()) :: {:ok, Backend.owner()} | :here | :error | {:error, Error.t()}
  def owner(id), do: backend().owner(id)

  @doc "The jobs of this gateway that have not ended, oldest first; waits while the store starts."
  @spec unfinished() :: [Record.t()]
  def unfinished do
    :ok = backend().ready()
    (&(not Record.ended?(&1))) |> list() |> Enum.reverse()
  end
end
