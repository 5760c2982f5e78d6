defmodule Koma.Store.Temporary do
  @moduledoc """
  Temporary files of the artifact store, each owned by the process that writes it: when that
  process dies, its file is deleted. Files of an earlier run are deleted at start.
  """
  use GenServer

  @doc "Starts the owner of the folder; option `:dir`."
  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(options), do: GenServer.start_link(__MODULE__, options, name: __MODULE__)

  @doc "A path for a new file of the calling process."
  @spec claim() :: Path.t()
  def claim, do: GenServer.call(__MODULE__, :claim)

  @doc "The file was renamed away or is to be deleted."
  @spec release(Path.t()) :: :ok
  def release(path), do: GenServer.call(__MODULE__, {:release, path})

  @impl GenServer
  def init(options) do
    dir = Keyword.fetch!(options, :dir)
    Koma.Store.Folder.empty!(dir)
    {:ok, %{dir: dir, next: 1, files: %{}}}
  end

  @impl GenServer
  def handle_call(:claim, {pid, _tag}, state) do
    path = Path.join(state.dir, Integer.to_string(state.next))
    files = Map.put(state.files, Process.monitor(pid), path)
    {:reply, path, %{state | next: state.next + 1, files: files}}
  end

  def handle_call({:release, path}, _from, state) do
    case Enum.find(state.files, fn {_ref, claimed} -> claimed == path end) do
      {ref, ^path} ->
        Process.demonitor(ref, [:flush])
        {:reply, :ok, delete(ref, state)}

      nil ->
        {:reply, :ok, state}
    end
  end

  @impl GenServer
  def handle_info({:DOWN, ref, :process, _pid, _reason}, state),
    do: {:noreply, delete(ref, state)}

  defp delete(ref, state) do
    {path, files} = Map.pop!(state.files, ref)
    _absent_when_renamed = File.rm(path)
    %{state | files: files}
  end
end
