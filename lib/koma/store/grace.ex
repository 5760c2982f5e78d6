defmodule Koma.Store.Grace do
  @moduledoc """
  What keeps an artifact that no job names from being collected: somebody stored it or asked for
  it a short while ago, which is told by the modification time of its file.

  Renewing and deleting both happen in this process, one after the other, so a file that was just
  promised to somebody is never deleted.
  """
  use GenServer

  alias Koma.Store.{Artifacts, Owners}

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

  @impl GenServer
  def init(nil) do
    Owners.open_uploads()
    {:ok, nil}
  end

  @impl GenServer
  def handle_call({:renew, id}, _from, nil), do: {:reply, touch(Artifacts.path(id)), nil}

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
    match?({:ok, %File.Stat{mtime: mtime}} when mtime < since, File.stat(path, time: :posix))
  end

  # Unlike File.touch/1 this makes no file where there is none.
  defp touch(path) do
    case :file.change_time(path, :calendar.local_time()) do
      :ok -> :ok
      {:error, _reason} -> :gone
    end
  end
end
