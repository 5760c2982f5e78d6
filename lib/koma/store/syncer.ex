defmodule Koma.Store.Syncer do
  @moduledoc """
  Brings the journal to the disk and tells the process that started it, many writes with one `fdatasync`.

  It is a process of its own so that writing (to the page cache) never waits for the disk.
  """
  use GenServer

  @typedoc "Brings what was written to a file to the disk."
  @type sync :: (:file.fd() -> :ok | {:error, :file.posix()})

  @doc """
  Starts it for the file at `path`, which must exist. The calling process gets
  `{:synced, writes, :ok | {:error, posix}}`.
  """
  @spec start_link(Path.t(), sync) :: GenServer.on_start()
  def start_link(path, sync), do: GenServer.start_link(__MODULE__, {path, sync, self()})

  @doc "Asks for everything written so far, which the caller calls `write`, to be brought to the disk."
  @spec sync(pid, write :: integer) :: :ok
  def sync(syncer, write), do: GenServer.cast(syncer, {:sync, write})

  @doc "The journal is another file now."
  @spec reopen(pid, Path.t()) :: :ok
  def reopen(syncer, path), do: GenServer.call(syncer, {:reopen, path}, :infinity)

  @impl GenServer
  def init({path, sync, owner}), do: {:ok, %{file: open(path), sync: sync, owner: owner}}

  @impl GenServer
  def handle_cast({:sync, write}, state) do
    writes = collect([write])
    send(state.owner, {:synced, writes, state.sync.(state.file)})
    {:noreply, state}
  end

  @impl GenServer
  def handle_call({:reopen, path}, _from, state) do
    # An error of the old file was told with its sync.
    _closed = :file.close(state.file)
    {:reply, :ok, %{state | file: open(path)}}
  end

  defp collect(writes) do
    receive do
      {:"$gen_cast", {:sync, write}} -> collect([write | writes])
    after
      0 -> Enum.reverse(writes)
    end
  end

  defp open(path) do
    {:ok, file} = :file.open(path, [:read, :append, :raw])
    file
  end
end
