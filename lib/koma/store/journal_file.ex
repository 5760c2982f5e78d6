defmodule Koma.Store.JournalFile do
  @moduledoc """
  The file of the job journal: read and told of at start, written anew from the jobs in memory, cut
  after a write that failed.
  """
  require Logger

  alias Koma.Store.{Damage, Folder, Journal, Memory, Replay}

  # Jobs that share a write; some kilobytes each.
  @batch 64
  # Of the jobs that are lost, so many are named.
  @named 20

  @doc "Reads a journal, which may be absent; the error is a sentence for the operator."
  @spec read(Path.t()) :: {:ok, Replay.t()} | {:error, String.t()}
  def read(path) do
    case File.read(path) do
      {:ok, bytes} -> {:ok, Replay.read(bytes)}
      {:error, :enoent} -> {:ok, Replay.read("")}
      {:error, reason} -> {:error, unreadable(path, reason)}
    end
  end

  defp unreadable(path, reason) do
    "The job journal #{path} cannot be read: #{:file.format_error(reason)}. " <>
      "Move it away to start without its jobs."
  end

  @doc """
  Writes the jobs in memory, and what only a newer version knows, to a new file, which takes the old one's place
  when it is whole and on disk; returns its size. A damaged old one is kept aside.
  """
  @spec rewrite(Path.t(), unknown :: [term], damaged :: list) ::
          {:ok, size :: non_neg_integer} | {:error, :file.posix()}
  def rewrite(path, unknown, damaged) do
    new = path <> ".new"

    with :ok <- write_all(new, unknown),
         :ok <- keep_damaged(path, damaged),
         :ok <- File.rename(new, path),
         :ok <- Folder.sync(Path.dirname(path)),
         {:ok, %{size: size}} <- File.stat(path) do
      {:ok, size}
    else
      {:error, reason} ->
        Logger.error("job journal: not written anew: #{:file.format_error(reason)}")
        _ignored = File.rm(new)
        {:error, reason}
    end
  end

  defp keep_damaged(_path, []), do: :ok
  defp keep_damaged(path, _damaged), do: with({:ok, _aside} <- Damage.keep(path), do: :ok)

  defp write_all(path, unknown) do
    with {:ok, file} <- :file.open(path, [:write, :raw]) do
      jobs = Enum.reverse(Memory.list(fn _record -> true end))

      result =
        with :ok <- Folder.own(path),
             :ok <- jobs |> Enum.chunk_every(@batch) |> write_jobs(file),
             :ok <- :file.write(file, Enum.map(unknown, &Journal.encode/1)),
             do: :file.sync(file)

      :ok = :file.close(file)
      result
    end
  end

  defp write_jobs([], _file), do: :ok

  defp write_jobs([records | later], file) do
    jobs = for record <- records, do: {:job, record, Memory.events(record.id, 0)}
    with :ok <- :file.write(file, Enum.map(jobs, &Journal.encode/1)), do: write_jobs(later, file)
  end

  @doc "Opens it for appending."
  @spec open(Path.t()) :: :file.fd()
  def open(path) do
    {:ok, file} = :file.open(path, [:append, :raw, :binary])
    file
  end

  @doc "Cuts it to so many bytes: what is behind was written by half."
  @spec cut(Path.t(), non_neg_integer) :: :ok
  def cut(path, size) do
    {:ok, file} = :file.open(path, [:read, :write, :raw])
    {:ok, ^size} = :file.position(file, size)
    :ok = :file.truncate(file)
    :ok = :file.close(file)
  end

  @doc "Tells operators what was not as it should be."
  @spec tell(Replay.t(), Path.t()) :: :ok
  def tell(%Replay{report: %{torn: torn}} = replay, path) do
    if torn > 0, do: Logger.warning("job journal: #{torn} bytes of a torn record are cut off")

    if replay.unknown != [] do
      count = length(replay.unknown)
      Logger.warning("job journal: #{count} entries of a newer version are carried along")
    end

    if replay.report.damaged != [] or MapSet.size(replay.lost) > 0,
      do: tell_damage(replay, path),
      else: :ok
  end

  defp tell_damage(%Replay{report: %{damaged: damaged}} = replay, path) do
    Damage.tell(:journal, damaged, """
    job journal: #{length(damaged)} damaged places of #{Damage.bytes(damaged)} bytes are left out; \
    they are kept in #{path}.damaged-*. Of these jobs the acceptance is lost: #{names(replay.lost)}. \
    Of these jobs events are lost, and others stand in for them: #{names(replay.mended)}.\
    """)
  end

  defp names(ids) do
    case Enum.split(ids, @named) do
      {[], []} -> "none"
      {first, []} -> Enum.join(first, ", ")
      {first, more} -> "#{Enum.join(first, ", ")} and #{length(more)} more"
    end
  end
end
