defmodule Koma.Store.Grace do
  @moduledoc """
  What keeps an artifact that no job names from being collected: somebody stored it or asked for
  it a short while ago, which is told by the modification time of its file.

  **One clock.** These times are written and compared by the clock of the BEAM, which does not jump while it runs, however the clock
  of the operating system is set. A time that lies in the future, as that clock was ahead before a
  restart, becomes the present at the next pass, so that it ends at all.

  Renewing and deleting both happen in this process, one after the other, so a file that was just
  promised to somebody is never deleted.
  """
  use GenServer
  require Record

  alias Koma.Store.{Artifacts, Owners}

  # Clocks that are set a little have no say.
  @ahead_s 60

  Record.defrecordp(
    :info,
    :file_info,
    Record.extract(:file_info, from_lib: "kernel/include/file.hrl")
  )

  @doc "Starts it."
  @spec start_link(term) :: GenServer.on_start()
  def start_link(_options), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "Begins the grace period of an artifact anew; `:gone` if there is no such file."
  @spec renew(String.t()) :: :ok | :gone
  def renew(id), do: GenServer.call(__MODULE__, {:renew, id}, :infinity)

  @doc "Notes that a key has uploaded an artifact that was just stored; `:existed` for the second time."
  @spec own(Artifacts.artifact(), String.t()) ::
          {:ok, :created | :existed} | {:error, :file.posix()}
  def own(artifact, key), do: GenServer.call(__MODULE__, {:own, artifact, key}, :infinity)

  @doc "Deletes an artifact unless it was renewed at or after `since` (s since 1970)."
  @spec collect(String.t(), integer) :: :deleted | :kept
  def collect(id, since), do: GenServer.call(__MODULE__, {:collect, id, since}, :infinity)

  @doc "Gives a file that is about to be stored the present time; model nodes may have written it long ago."
  @spec begin(Path.t()) :: :ok | {:error, :file.posix()}
  def begin(path) do
    now = now()
    :file.write_file_info(path, info(atime: now, mtime: now), [:raw, time: :posix])
  end

  @doc """
  Before which time (s since 1970) a file was last asked for whose grace period is over. What lies beside the
  artifacts has the times of the operating system: where both clocks differ, the one that is behind counts.
  """
  @spec since(grace_ms :: non_neg_integer, clocks :: [integer]) :: integer
  def since(grace_ms, clocks \\ [now(), System.os_time(:second)]) do
    # File times have whole seconds: one more, so that a grace period is never cut short.
    Enum.min(clocks) - div(grace_ms + 999, 1000)
  end

  defp now, do: System.system_time(:second)

  @impl GenServer
  def init(nil) do
    Owners.open_uploads()
    {:ok, nil}
  end

  @impl GenServer
  def handle_call({:renew, id}, _from, nil) do
    {:reply, if(begin(Artifacts.path(id)) == :ok, do: :ok, else: :gone), nil}
  end

  def handle_call({:own, artifact, key}, _from, nil) do
    {:reply, Owners.add(artifact, key), nil}
  end

  def handle_call({:collect, id, since}, _from, nil) do
    path = Artifacts.path(id)

    if older?(path, since) do
      Owners.remove(id, File.stat!(path).size)

      # The bytes first: a media type that is left alone is swept later, bytes without one are not.
      _gone = File.rm(path)
      _gone = File.rm(path <> ".type")
      {:reply, :deleted, nil}
    else
      {:reply, :kept, nil}
    end
  end

  defp older?(path, since) do
    case File.stat(path, time: :posix) do
      {:ok, %File.Stat{mtime: mtime}} -> bound(path, mtime) < since
      {:error, _gone} -> false
    end
  end

  defp bound(path, mtime) do
    _gone_meanwhile = if mtime > now() + @ahead_s, do: begin(path)
    mtime
  end
end
