defmodule Koma.Store.Folder do
  @moduledoc "Folders of the store: making them, and making a rename inside them durable."

  @doc "Syncs a folder, so that a rename inside it survives a power cut (see fsync(2), NOTES)."
  @spec sync(Path.t()) :: :ok
  def sync(path) do
    {:ok, handle} = :file.open(path, [:read, :raw, :directory])
    # Some file systems cannot sync folders; the rename itself is atomic all the same.
    _ignored = :file.sync(handle)
    :file.close(handle)
  end

  @doc "Empties a folder, making it if need be."
  @spec empty!(Path.t()) :: :ok
  def empty!(path) do
    _deleted = File.rm_rf!(path)
    File.mkdir_p!(path)
  end
end
