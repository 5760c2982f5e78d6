defmodule Koma.Pipeline.Files do
  @moduledoc """
  Pipelines on disk: one append-only journal each, `pipelines/<id>`, of the accepted record and
  its events (`Koma.Store.Journal`). Only the pipeline's own process appends.

  A file is synced when the pipeline is accepted and when a stage or the pipeline ends; what is
  lost in a power cut between is told again by the jobs, which have their own store.

  Damaged bytes are skipped; a file of which not even the acceptance can be read is set aside.
  """

  alias Koma.{Error, Follower, Options}
  alias Koma.Job.Event
  alias Koma.Pipeline.{Record, Sizes}
  alias Koma.Store.{Damage, Folder, Journal}

  @types ~w(stage completed failed cancelled)
  # "pl_", in a cluster the tag of the gateway, and 128 random bits; nothing else ever becomes a path.
  @id ~r/\Apl_([a-z2-7]{6})?[a-z2-7]{26}\z/

  @doc "A new id, not to be guessed."
  @spec new_id() :: String.t()
  def new_id, do: id(Base.encode32(:crypto.strong_rand_bytes(16), case: :lower, padding: false))

  @doc "The id of a pipeline of this gateway with this name, which tells it from the others."
  @spec id(name :: String.t()) :: String.t()
  def id(name), do: "pl_" <> Koma.Cluster.tag() <> name

  @doc "Makes the folder, and deletes what was not accepted when the server died."
  @spec prepare() :: :ok
  def prepare do
    Folder.make!(folder())
    folder() |> Path.join("*.new") |> Path.wildcard() |> Enum.each(&File.rm/1)
  end

  @doc "Stores an accepted pipeline; on `:ok` it is on disk. What has its final name is whole."
  @spec accept(Record.t()) :: :ok | {:error, Error.t()}
  def accept(%Record{id: id} = record) do
    new = path(id) <> ".new"

    with :ok <- Folder.write(new, Journal.encode({:accepted, record})),
         :ok <- File.rename(new, path(id)) do
      Folder.sync(folder())
    else
      {:error, reason} ->
        _partly_written = File.rm(new)
        message = "The pipeline could not be stored: #{:file.format_error(reason)}."
        {:error, Error.new("storage_full", message)}
    end
  end

  @doc "How many bytes an accepted pipeline takes, or a stored one."
  @spec bytes(Record.t() | String.t()) :: non_neg_integer
  def bytes(%Record{} = record), do: IO.iodata_length(Journal.encode({:accepted, record}))

  def bytes(id) do
    case File.stat(path(id)) do
      {:ok, stat} -> stat.size
      {:error, _gone} -> 0
    end
  end

  @doc "Reads a pipeline: the record with all events applied, and the events, oldest first."
  @spec read(String.t()) :: {:ok, Record.t(), [Event.t()]} | :error
  def read(id) do
    with true <- id =~ @id,
         {:ok, bytes} <- File.read(path(id)),
         {{%Record{} = record, events}, _report} <- Journal.fold(bytes, nil, &fold/2) do
      {:ok, Record.upgrade(record), Enum.reverse(events)}
    else
      _absent_or_damaged -> :error
    end
  end

  @doc "Opens the journal for appending; bytes after the last whole record are cut off."
  @spec open(String.t()) :: :file.fd()
  def open(id) do
    {_acc, report} = Journal.fold(File.read!(path(id)), nil, fn _entry, nil -> nil end)
    if report.damaged != [], do: keep_damaged(id, report)
    {:ok, file} = :file.open(path(id), [:read, :write, :raw])
    {:ok, sound} = :file.position(file, report.sound)
    true = sound == report.sound
    :ok = :file.truncate(file)
    file
  end

  # Once: later starts find the copy.
  defp keep_damaged(id, %{damaged: damaged}) do
    if Path.wildcard(path(id) <> ".damaged-*") == [] do
      _kept = Damage.copy(path(id))
      left_out = "#{Damage.bytes(damaged)} damaged bytes are left out, and kept beside it"
      Damage.tell(:pipeline, damaged, "pipeline #{id}: #{left_out}")
    end
  end

  @doc "What is wrong with the file of a pipeline; `:error` for nothing."
  @spec problem(String.t()) :: {:ok, :unreadable | :damaged | :torn} | :error
  def problem(id) do
    with {:ok, _record, _events} <- read(id),
         {:ok, bytes} <- File.read(path(id)),
         {_acc, report} = Journal.fold(bytes, nil, fn _entry, nil -> nil end) do
      cond do
        report.damaged != [] -> {:ok, :damaged}
        report.torn > 0 -> {:ok, :torn}
        true -> :error
      end
    else
      _error -> {:ok, :unreadable}
    end
  end

  @doc "Writes it anew from what can be read; the damaged file is kept aside. Nobody may have it open."
  @spec repair(String.t(), :unreadable | :damaged | :torn) :: :ok | {:error, File.posix()}
  def repair(id, :unreadable), do: set_aside(id)

  def repair(id, problem) do
    {entries, _report} = Journal.fold(File.read!(path(id)), [], &[Journal.encode(&1) | &2])
    new = path(id) <> ".new"

    with {:ok, _aside} <- if(problem == :damaged, do: Damage.keep(path(id)), else: {:ok, nil}),
         :ok <- Folder.write(new, Enum.reverse(entries)),
         :ok <- File.rename(new, path(id)),
         do: Folder.sync(folder())
  end

  @doc "Sets files aside of which not even the acceptance can be read; returns the ids of the others."
  @spec set_aside_unreadable() :: [String.t()]
  def set_aside_unreadable do
    {sound, unreadable} = Enum.split_with(ids(), &(read(&1) != :error))
    Enum.each(unreadable, &set_aside/1)
    sound
  end

  defp set_aside(id) do
    with {:ok, %{size: size}} <- File.stat(path(id)),
         {:ok, aside} <- Damage.set_aside(path(id)) do
      message = "pipeline #{id} cannot be read; its file is #{aside} now"
      Damage.tell(:pipeline, [{0, size}], message)
    end
  end

  @doc "Appends an event; the end of a stage or of the pipeline is on disk when this returns."
  @spec append(:file.fd(), Event.t()) :: :ok | {:error, term}
  def append(file, %Event{} = event) do
    with :ok <- :file.write(file, Journal.encode({:event, event})) do
      if event.type != "stage" or Follower.terminal?(event.data["event"]),
        do: :file.datasync(file),
        else: :ok
    end
  end

  @doc "Notes that a process has taken the pipeline up."
  @spec taken_up(:file.fd()) :: :ok | {:error, term}
  def taken_up(file), do: :file.write(file, Journal.encode(:taken_up))

  @doc "The ids of all stored pipelines."
  @spec ids() :: [String.t()]
  def ids, do: Enum.filter(File.ls!(folder()), &(&1 =~ @id))

  @doc "Forgets the oldest finished pipelines beyond `keep`; `live` are the ids that run."
  @spec prune(non_neg_integer, MapSet.t(String.t())) :: :ok
  def prune(keep, live) do
    others = Enum.reject(ids(), &MapSet.member?(live, &1))

    if length(others) > keep do
      others |> Enum.sort_by(&modified/1, :desc) |> Enum.drop(keep) |> Enum.each(&forget/1)
    else
      :ok
    end
  end

  # One that was just accepted, or whose process is about to start again, does not run either.
  defp forget(id) do
    with {:ok, record, _events} <- read(id), true <- Record.ended?(record), do: remove(id)
  end

  defp remove(id) do
    _gone_already = File.rm(path(id))
    Sizes.forget(id)
  end

  defp modified(id) do
    case File.stat(path(id), time: :posix) do
      {:ok, stat} -> stat.mtime
      {:error, _gone} -> 0
    end
  end

  defp fold({:accepted, %Record{} = record}, nil), do: {record, []}

  defp fold(:taken_up, {record, events}),
    do: {%Record{record | starts: record.starts + 1}, events}

  # Where events between were damaged, their numbers stay free: what jobs of stages came to is told anew.
  defp fold({:event, %Event{seq: seq, type: type} = event}, {%Record{seq: last} = record, events})
       when seq > last and type in @types do
    {Record.apply(%Record{record | seq: seq - 1}, event), [event | events]}
  end

  # Of a newer version, or behind an acceptance that is lost.
  defp fold(_unknown, acc), do: acc

  defp path(id), do: Path.join(folder(), id)
  defp folder, do: Path.join(Options.get().data_dir, "pipelines")
end
