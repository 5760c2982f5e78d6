defmodule Koma.Store.Folder do
  @moduledoc """
  Folders and files of the store: making them for their owner only, and making a rename inside a
  folder durable.
  """

  @folder 0o700
  @file_mode 0o600

  @doc "Makes a folder for its owner only, with those above it; one that is there stays as it is."
  @spec make(Path.t()) :: :ok | {:error, File.posix()}
  def make(path) do
    case File.mkdir(path) do
      :ok ->
        File.chmod(path, @folder)

      {:error, :eexist} ->
        if File.dir?(path), do: :ok, else: {:error, :enotdir}

      {:error, :enoent} ->
        with :ok <- File.mkdir_p(Path.dirname(path)), do: make(path)

      {:error, reason} ->
        {:error, reason}
    end
  end

  @doc "As `make/1`; raises where that fails."
  @spec make!(Path.t()) :: :ok
  def make!(path) do
    with {:error, reason} <- make(path) do
      raise File.Error, reason: reason, action: "make directory", path: path
    end
  end

  @doc "Makes an empty file for its owner only, unless there is one."
  @spec touch(Path.t()) :: :ok | {:error, File.posix()}
  def touch(path) do
    with {:ok, file} <- :file.open(path, [:append, :raw]),
         :ok <- :file.close(file),
         do: own(path)
  end

  @doc "Writes a file, for its owner only from the first byte on, and brings it to the disk."
  @spec write(Path.t(), iodata) :: :ok | {:error, File.posix()}
  def write(path, bytes) do
    with :ok <- touch(path), do: File.write(path, bytes, [:sync])
  end

  @doc "Takes a file from everybody but its owner."
  @spec own(Path.t()) :: :ok | {:error, File.posix()}
  def own(path), do: File.chmod(path, @file_mode)

  @doc "Syncs a folder, so that a rename inside it survives a power cut (see fsync(2), NOTES)."
  @spec sync(Path.t()) :: :ok | {:error, File.posix()}
  def sync(path) do
    with {:ok, handle} <- :file.open(path, [:read, :raw, :directory]) do
      result = :file.sync(handle)
      _closed = :file.close(handle)
      synced(result)
    end
  end

  # Some file systems cannot sync folders; the rename itself is atomic all the same.
  defp synced({:error, reason}) when reason in [:einval, :enotsup, :ebadf, :eisdir], do: :ok
  defp synced(result), do: result

  @doc "Empties a folder, making it if need be."
  @spec empty!(Path.t()) :: :ok
  def empty!(path) do
    _deleted = File.rm_rf!(path)
    make!(path)
  end
end
