defmodule Koma.Store.Owners do
  @moduledoc """
  Which API keys may see an artifact: those that uploaded it, and those of whose jobs one names it
  as input or output. Who asks without a key, where none are configured, sees everything.

  **Uploads** are noted beside the artifact: `abcd….keys` has a line for each key. It goes
  with it, and is changed only by the one process that renews and deletes artifacts
  (`Koma.Store.Grace`). **Jobs** are found in an index of the records in
  memory, which `Koma.Store.Memory` keeps.

  An artifact comes first and its owner is noted next: without one, nobody sees it.
  """

  alias Koma.Job.Record
  alias Koma.Store
  alias Koma.Store.{Artifacts, Folder, Jobs}

  @type key :: String.t() | nil

  @named __MODULE__.Named
  @bytes __MODULE__.Bytes
  @produced __MODULE__.Produced
  @suffix ".keys"

  @doc "Whether the key may see the artifact."
  @spec owner?(artifact :: String.t(), key) :: boolean
  def owner?(_id, nil), do: true
  def owner?(id, key), do: named?(id, key) or key in uploaders(id) or named_elsewhere?(id, key)

  # By jobs of other gateways, and by those of this one that ended before it was started again.
  defp named_elsewhere?(id, key) do
    Jobs.backend() == Store.Redis and
      Jobs.list(key, &(id in Record.artifacts(&1)), 1) != []
  end

  # --- jobs

  @doc "Makes the index; the calling process owns it."
  @spec open_index() :: :ok
  def open_index do
    @named = :ets.new(@named, [:ordered_set, :named_table, read_concurrency: true])
    @produced = :ets.new(@produced, [:set, :named_table, read_concurrency: true])
    :ok
  end

  @doc "Notes what a record names; again when it names more."
  @spec index(Record.t()) :: :ok
  def index(%Record{key: nil}), do: :ok

  def index(%Record{} = record) do
    :ets.insert(@named, for(name <- names(record), do: {name}))
    # Outputs come once, with the end.
    if outputs(record) > 0 and :ets.insert_new(@produced, {{:job, record.id}}),
      do: produce(record.key, outputs(record))

    :ok
  end

  @doc "The record is forgotten."
  @spec forget(Record.t()) :: :ok
  def forget(%Record{} = record) do
    Enum.each(names(record), &:ets.delete(@named, &1))
    if :ets.take(@produced, {:job, record.id}) != [], do: produce(record.key, -outputs(record))
    :ok
  end

  @doc "The bytes that the jobs of a key have made, as long as they are kept."
  @spec produced(key) :: non_neg_integer
  def produced(key) do
    case :ets.whereis(@produced) != :undefined and :ets.lookup(@produced, {:key, key}) do
      [{_name, bytes}] -> bytes
      _none -> 0
    end
  end

  defp outputs(%Record{outputs: outputs}) do
    Enum.sum(for(%{"bytes" => bytes} when is_integer(bytes) <- outputs || [], do: bytes))
  end

  defp produce(key, bytes) do
    name = {:key, key}
    _sum = :ets.update_counter(@produced, name, bytes, {name, 0})
    :ok
  end

  defp names(record) do
    for artifact <- Record.artifacts(record), do: {record.key, artifact, record.id}
  end

  # An id is greater than "", and no other artifact lies between.
  defp named?(artifact, key) do
    match?({^key, ^artifact, _job}, :ets.next(@named, {key, artifact, ""}))
  end

  # --- uploads

  @doc "Counts what each key has uploaded; the calling process owns the table."
  @spec open_uploads() :: :ok
  def open_uploads do
    @bytes = :ets.new(@bytes, [:set, :named_table, read_concurrency: true])
    for {id, bytes} <- Artifacts.list(), key <- uploaders(id), do: count(key, bytes)
    :ok
  end

  @doc "The bytes of the artifacts that the key has uploaded and that are stored."
  @spec bytes(key) :: non_neg_integer
  def bytes(key) do
    case :ets.lookup(@bytes, key) do
      [{^key, bytes}] -> bytes
      [] -> 0
    end
  end

  @doc "Notes who uploaded an artifact; `:existed` if that was noted before."
  @spec add(Artifacts.artifact(), key) :: {:ok, :created | :existed} | {:error, :file.posix()}
  def add(%{id: id, bytes: bytes}, key) do
    uploaders = uploaders(id)

    if key in uploaders do
      {:ok, :existed}
    else
      with :ok <- replace(path(id), Enum.map([key | uploaders], &[&1, ?\n])) do
        count(key, bytes)
        {:ok, :created}
      end
    end
  end

  # By rename: a name that was written by half might be that of another key.
  defp replace(path, lines) do
    new = path <> ".new"
    with :ok <- Folder.write(new, lines), do: File.rename(new, path)
  end

  @doc "An artifact of so many bytes is deleted."
  @spec remove(artifact :: String.t(), non_neg_integer) :: :ok
  def remove(id, bytes) do
    for key <- uploaders(id), do: count(key, -bytes)
    _nobody = File.rm(path(id))
    :ok
  end

  defp uploaders(id) do
    case File.read(path(id)) do
      {:ok, text} -> String.split(text, "\n", trim: true)
      {:error, _nobody} -> []
    end
  end

  defp count(key, bytes) do
    _sum = :ets.update_counter(@bytes, key, bytes, {key, 0})
    :ok
  end

  defp path(id), do: Artifacts.path(id) <> @suffix
end
