defmodule Koma.Store.Syncer do
  @moduledoc """
  Brings the journal to the disk and answers those who wait for it, many with one `fdatasync`.

  It is a process of its own so that writing (to the page cache) never waits for the disk.
  """
  use GenServer

  @doc "Starts it for the file at `path`, which must exist."
  @spec start_link(Path.t()) :: GenServer.on_start()
  def start_link(path), do: GenServer.start_link(__MODULE__, path)

  @doc "Answers `from` with `:ok` or `{:error, posix}` once everything written so far is on disk."
  @spec sync(pid, GenServer.from()) :: :ok
  def sync(syncer, from), do: GenServer.cast(syncer, {:sync, from})

  @doc "The journal is another file now."
  @spec reopen(pid, Path.t()) :: :ok
  def reopen(syncer, path), do: GenServer.call(syncer, {:reopen, path}, :infinity)

  @impl GenServer
  def init(path), do: {:ok, open(path)}

  @impl GenServer
  def handle_cast({:sync, from}, file) do
    waiting = collect([from])
    result = :file.datasync(file)
    Enum.each(waiting, &GenServer.reply(&1, result))
    {:noreply, file}
  end

  @impl GenServer
  def handle_call({:reopen, path}, _from, file) do
    :ok = :file.close(file)
    {:reply, :ok, open(path)}
  end

  defp collect(waiting) do
    receive do
      {:"$gen_cast", {:sync, from}} -> collect([from | waiting])
    after
      0 -> waiting
    end
  end

  defp open(path) do
    {:ok, file} = :file.open(path, [:read, :append, :raw])
    file
  end
end
