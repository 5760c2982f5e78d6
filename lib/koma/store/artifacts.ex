defmodule Koma.Store.Artifacts do
  @moduledoc """
  Files named by the SHA-256 of their bytes: `artifacts/ab/abcd…`, beside it `abcd….type` with the
  media type where the bytes do not tell it (`Koma.Store.MediaType`).

  A file is written under a temporary name, hashed as it is written, synced, and renamed, so
  whatever has its final name is whole. The same bytes are stored once. The bytes themselves
  never travel between processes: writers write, and readers get a path.
  """

  alias Koma.{Error, Options, Shown, Telemetry}
  alias Koma.Store.{Collector, Folder, Grace, MediaType, Owners, Temporary}

  @chunk 256 * 1024
  # What may lie beside the bytes.
  @beside ~w(.type .keys .new)

  @type artifact :: %{
          id: String.t(),
          path: Path.t(),
          media_type: String.t(),
          bytes: non_neg_integer
        }

  defmodule Writer do
    @moduledoc "An artifact being written; used by one process."
    @enforce_keys [:path, :file, :media_type, :hash, :key]
    defstruct [:path, :file, :media_type, :hash, :key, bytes: 0, head: ""]

    @type t :: %__MODULE__{
            path: Path.t(),
            file: :file.fd(),
            media_type: String.t(),
            hash: :crypto.hash_state(),
            key: Owners.key(),
            bytes: non_neg_integer,
            head: binary
          }
  end

  @doc """
  Begins an artifact, which is that of a key, in a temporary file, which is deleted when the calling
  process dies.
  """
  @spec open(String.t(), Owners.key()) :: {:ok, Writer.t()} | {:error, Error.t()}
  def open(media_type, key \\ nil) do
    path = Temporary.claim()

    with {:ok, file} <- :file.open(path, [:write, :raw, :binary]),
         :ok <- Folder.own(path) do
      hash = :crypto.hash_init(:sha256)
      {:ok, %Writer{path: path, file: file, media_type: media_type, hash: hash, key: key}}
    else
      {:error, reason} ->
        Temporary.release(path)
        {:error, disk_error(reason)}
    end
  end

  @doc "Appends bytes. After an error the writer is to be aborted."
  @spec write(Writer.t(), iodata) :: {:ok, Writer.t()} | {:error, Error.t()}
  def write(%Writer{} = writer, data) do
    longer = longer(writer, data)

    with :ok <- within(longer.bytes, Options.get().max_upload_bytes),
         :ok <- to_disk(:file.write(writer.file, data)),
         do: {:ok, longer}
  end

  @doc """
  Ends an artifact: sync, rename. `:existed` when its key had stored these bytes before; whether
  another key had, it does not learn. With a digest
  that does not fit (`digest_mismatch`), and on any other error, nothing is left behind.
  """
  @spec commit(Writer.t(), String.t() | nil) ::
          {:ok, artifact, :created | :existed} | {:error, Error.t()}
  def commit(%Writer{} = writer, expected) do
    content = whole(writer)
    synced = to_disk(:file.sync(writer.file))
    :ok = :file.close(writer.file)

    result =
      with :ok <- synced,
           :ok <- same(content.id, expected),
           media_type = MediaType.sniff(content.head, writer.media_type),
           {:ok, artifact, status} <- place(writer.path, content, media_type) do
        own(artifact, status, writer.key)
      end

    Temporary.release(writer.path)
    result
  end

  defp own(artifact, status, nil), do: {:ok, artifact, status}

  defp own(artifact, _status, key) do
    case Grace.own(artifact, key) do
      {:ok, status} -> {:ok, artifact, status}
      {:error, reason} -> {:error, disk_error(reason)}
    end
  end

  @doc "Gives an artifact up; harmless after an error."
  @spec abort(Writer.t()) :: :ok
  def abort(%Writer{} = writer) do
    _closed_already = :file.close(writer.file)
    Temporary.release(writer.path)
  end

  @doc """
  Moves a finished file in, by rename. Its bytes must have the digest `sha256`; on an error the
  file stays where it is.
  """
  @spec adopt(Path.t(), String.t(), String.t()) :: {:ok, artifact} | {:error, Error.t()}
  def adopt(path, media_type, sha256) do
    with {:ok, content} <- content(path),
         :ok <- same(content.id, sha256),
         {:ok, artifact, _new} <- place(path, content, media_type) do
      {:ok, artifact}
    end
  end

  @doc "Finds an artifact, whoever asks."
  @spec fetch(String.t()) :: {:ok, artifact} | {:error, Error.t()}
  def fetch(id) do
    with true <- id?(id),
         path = path(id),
         {:ok, %File.Stat{size: bytes}} <- File.stat(path),
         media_type when media_type != nil <- media_type(path) do
      {:ok, %{id: id, path: path, media_type: media_type, bytes: bytes}}
    else
      _absent -> {:error, not_found(id)}
    end
  end

  defp media_type(path) do
    case File.read(path <> ".type") do
      {:ok, media_type} -> media_type
      {:error, _the_bytes_tell} -> path |> beginning() |> MediaType.sniff(nil)
    end
  end

  defp beginning(path) do
    case File.open(path, [:read, :raw], &:file.read(&1, MediaType.needed())) do
      {:ok, {:ok, bytes}} -> bytes
      _empty_or_gone -> ""
    end
  end

  @doc """
  As `fetch/1`, for a key that is about to use it: its grace period begins anew. One that the key
  may not see is not there for it.
  """
  @spec renew(String.t(), Owners.key()) :: {:ok, artifact} | {:error, Error.t()}
  def renew(id, key) do
    # Owners are asked about what is there: where a Redis has to be asked it takes a while.
    with {:ok, _artifact} <- fetch(id),
         true <- Owners.owner?(id, key) do
      _gone = Grace.renew(id)
      fetch(id)
    else
      false -> {:error, not_found(id)}
      error -> error
    end
  end

  defp not_found(id) do
    Error.new("artifact_not_found", "There is no artifact #{Shown.text(id)}", value: id)
  end

  @doc "Every stored artifact with its size in bytes."
  @spec list() :: [{id :: String.t(), bytes :: non_neg_integer}]
  def list do
    for {id, path} <- files(), id?(id), {:ok, stat} <- [File.stat(path)], do: {id, stat.size}
  end

  @doc "Deletes media types and owners older than `since` (s since 1970) that were left without bytes."
  @spec sweep_types(integer) :: :ok
  def sweep_types(since) do
    for {name, path} <- files(),
        String.ends_with?(name, @beside),
        not File.exists?(Path.rootname(path)),
        {:ok, %File.Stat{mtime: mtime}} when mtime < since <- [File.stat(path, time: :posix)],
        _gone = File.rm(path),
        do: :swept

    :ok
  end

  @doc "Where the bytes of an artifact lie, or would."
  @spec path(id :: String.t()) :: Path.t()
  def path(<<shard::binary-size(2), _::binary>> = id), do: Path.join([folder(), shard, id])

  @doc "Makes the folder; called at start."
  @spec prepare(Path.t()) :: :ok
  def prepare(data_dir), do: Folder.make!(Path.join(data_dir, "artifacts"))

  # Only a digest ever becomes a path.
  defp id?(id), do: is_binary(id) and id =~ ~r/\A[0-9a-f]{64}\z/

  defp folder, do: Path.join(Options.get().data_dir, "artifacts")

  defp files do
    for shard <- names(folder()), name <- names(Path.join(folder(), shard)) do
      {name, Path.join([folder(), shard, name])}
    end
  end

  defp names(dir) do
    case File.ls(dir) do
      {:ok, names} -> names
      {:error, _not_a_folder} -> []
    end
  end

  # Both files are whole before they get their names, the type first: a file with a final name
  # always has its type, and two processes that store the same bytes write the same.
  defp place(from, content, media_type) do
    with {:ok, artifact, status} <- move(from, content, media_type) do
      metadata = %{id: artifact.id, media_type: artifact.media_type, status: status}
      Telemetry.execute([:koma, :artifact, :stored], %{bytes: artifact.bytes}, metadata)
      {:ok, artifact, status}
    end
  end

  defp move(from, %{id: id, head: head, bytes: bytes}, media_type) do
    case renew_if_there(id) do
      :ok ->
        _adopted_twice = File.rm(from)
        with {:ok, artifact} <- fetch(id), do: {:ok, artifact, :existed}

      :gone ->
        artifact = %{id: id, path: path(id), media_type: media_type, bytes: bytes}
        noted = if MediaType.sniff(head, nil) != media_type, do: media_type
        with :ok <- to_disk(name(from, artifact.path, noted)), do: {:ok, artifact, :created}
    end
  end

  # What is new need not wait for those who renew.
  defp renew_if_there(id),
    do: if(File.exists?(path(id), [:raw]), do: Grace.renew(id), else: :gone)

  defp name(from, to, media_type) do
    with :ok <- Grace.begin(from),
         :ok <- Folder.own(from),
         :ok <- name_type(from <> ".type", to <> ".type", media_type),
         :ok <- rename(from, to),
         do: Folder.sync(Path.dirname(to))
  end

  defp name_type(_from, _to, nil), do: :ok

  defp name_type(from, to, media_type) do
    with :ok <- Folder.write(from, media_type),
         :ok <- rename(from, to) do
      :ok
    else
      {:error, reason} ->
        _partly_written = File.rm(from)
        {:error, reason}
    end
  end

  # Most are not the first of their folder.
  defp rename(from, to) do
    with {:error, :enoent} <- File.rename(from, to),
         :ok <- Folder.make(Path.dirname(to)),
         :ok <- Folder.sync(folder()),
         do: File.rename(from, to)
  end

  # Reads a file once, chunk by chunk, and syncs it.
  defp content(path) do
    case :file.open(path, [:read, :raw, :binary]) do
      {:ok, file} ->
        read = read(file, %{hash: :crypto.hash_init(:sha256), head: "", bytes: 0})
        synced = with {:ok, _content} <- read, do: :file.sync(file)
        :ok = :file.close(file)
        with :ok <- to_disk(synced), do: read

      {:error, reason} ->
        {:error, Error.new("model_failed", "The model node's output is not there: #{reason}")}
    end
  end

  # Less than was asked for is the end.
  defp read(file, content) do
    case :file.read(file, @chunk) do
      {:ok, chunk} when byte_size(chunk) < @chunk -> {:ok, content |> longer(chunk) |> whole()}
      {:ok, chunk} -> read(file, longer(content, chunk))
      :eof -> {:ok, whole(content)}
      {:error, reason} -> {:error, reason}
    end
  end

  # What is known of a file, of bytes that are written or read one after another.
  defp longer(%{hash: hash, head: head, bytes: bytes} = content, data) do
    bytes = bytes + IO.iodata_length(data)
    %{content | hash: :crypto.hash_update(hash, data), head: head(head, data), bytes: bytes}
  end

  defp whole(%{hash: hash, head: head, bytes: bytes}) do
    id = hash |> :crypto.hash_final() |> Base.encode16(case: :lower)
    %{id: id, head: head, bytes: bytes}
  end

  defp same(_id, nil), do: :ok
  defp same(id, id), do: :ok

  defp same(id, expected) do
    message = "The bytes have the digest #{id}, not #{Shown.text(expected)}"
    {:error, Error.new("digest_mismatch", message, value: expected, bound: id)}
  end

  defp within(bytes, limit) when bytes <= limit, do: :ok

  defp within(_bytes, limit) do
    {:error, Error.new("too_large", "An artifact may have at most #{limit} bytes", bound: limit)}
  end

  defp head(head, data) do
    case MediaType.needed() - byte_size(head) do
      0 -> head
      missing -> head <> (data |> IO.iodata_to_binary() |> first(missing))
    end
  end

  defp first(bytes, n), do: binary_part(bytes, 0, min(n, byte_size(bytes)))

  defp to_disk(:ok), do: :ok
  defp to_disk({:error, reason}), do: {:error, disk_error(reason)}

  defp disk_error(reason) when reason in [:enospc, :edquot] do
    Collector.disk_full()
    Error.new("storage_full", "The disk that holds the artifacts is full")
  end

  defp disk_error(reason), do: Error.new("internal", "The artifact store failed: #{reason}")
end
