defmodule Koma.Store.Check do
  @moduledoc """
  Looks a data folder over, and repairs it, while no server runs on it: `koma check-data`.

  What is damaged is the same as what a start would meet (docs/store.md), and repairing does what a
  start would do; beyond that every artifact is read and compared with its name.
  """

  alias Koma.{JSON, Options}
  alias Koma.Job.Record
  alias Koma.Pipeline.Files
  alias Koma.Store.{Artifacts, Damage, JournalFile, Lock, Memory, Replay}

  @chunk 1024 * 1024

  @typedoc "What was found, ready for JSON; `sound` tells whether anything is damaged."
  @type report :: %{String.t() => term}

  @doc "Runs it for `koma check-data`: `KOMA_DATA` and `KOMA_REPAIR`; prints the report as one line and halts."
  @spec main() :: no_return
  def main do
    Logger.configure(level: :none)
    dir = Path.expand(System.fetch_env!("KOMA_DATA"))
    repair? = System.get_env("KOMA_REPAIR") == "on"

    case run(dir, repair?) do
      {:ok, report} -> report |> print() |> status() |> System.halt()
      {:error, sentence} -> refuse(sentence)
    end
  end

  @spec refuse(String.t()) :: no_return
  defp refuse(sentence) do
    _told = print(%{"error" => sentence})
    System.halt(3)
  end

  defp print(report) do
    IO.puts(JSON.encode!(report))
    report
  end

  defp status(%{"sound" => sound, "repaired" => repaired}),
    do: if(sound or repaired, do: 0, else: 1)

  @doc "Checks the folder; the error is a sentence: it is in use, or cannot be read."
  @spec run(Path.t(), repair? :: boolean) :: {:ok, report} | {:error, String.t()}
  def run(dir, repair?) do
    Options.put(Options.new!(data_dir: dir))
    with {:ok, result} <- Lock.run(dir, fn -> check(dir, repair?) end), do: result
  end

  defp check(dir, repair?) do
    journal = Path.join(dir, "jobs/journal")

    with {:ok, replay} <- JournalFile.read(journal) do
      pipelines = damaged_pipelines()
      artifacts = for {id, _bytes} <- Artifacts.list(), digest(id) != id, do: id
      sound? = sound?(replay) and pipelines == [] and artifacts == []
      repaired? = repair? and not sound?
      result = if repaired?, do: repair(journal, replay, pipelines, artifacts), else: :ok
      with :ok <- result, do: {:ok, report(replay, pipelines, artifacts, sound?, repaired?)}
    end
  end

  defp sound?(%Replay{report: report, lost: lost}) do
    report.damaged == [] and report.torn == 0 and MapSet.size(lost) == 0
  end

  defp damaged_pipelines do
    for id <- pipelines(), {:ok, problem} <- [Files.problem(id)], do: {id, problem}
  end

  defp pipelines do
    Files.ids()
  rescue
    # There never was one.
    File.Error -> []
  end

  defp digest(id) do
    id
    |> Artifacts.path()
    |> File.stream!([], @chunk)
    |> Enum.reduce(:crypto.hash_init(:sha256), &:crypto.hash_update(&2, &1))
    |> :crypto.hash_final()
    |> Base.encode16(case: :lower)
  rescue
    # It is there, and cannot be read.
    File.Error -> nil
    IO.StreamError -> nil
  end

  defp repair(journal, replay, pipelines, artifacts) do
    for {id, problem} <- pipelines, do: :ok = Files.repair(id, problem)
    for id <- artifacts, do: {:ok, _aside} = Damage.set_aside(Artifacts.path(id))
    if sound?(replay), do: :ok, else: rewrite(journal, replay)
  end

  # In a process of its own: with it the tables are gone that the jobs are written from.
  defp rewrite(journal, replay) do
    {_pid, ref} =
      spawn_monitor(fn ->
        Memory.create(Replay.jobs(replay))
        exit({:done, JournalFile.rewrite(journal, replay.unknown, replay.report.damaged)})
      end)

    receive do
      {:DOWN, ^ref, :process, _pid, {:done, {:ok, _size}}} ->
        :ok

      {:DOWN, ^ref, :process, _pid, {:done, {:error, reason}}} ->
        {:error, failed(journal, reason)}

      {:DOWN, ^ref, :process, _pid, reason} ->
        exit(reason)
    end
  end

  defp failed(journal, reason),
    do: "#{journal} cannot be repaired: #{:file.format_error(reason)}."

  defp report(replay, pipelines, artifacts, sound?, repaired?) do
    jobs = for {%Record{} = record, _events} <- Replay.jobs(replay), do: record

    %{
      "sound" => sound?,
      "repaired" => repaired?,
      "jobs" => jobs |> Enum.map(& &1.state) |> Enum.frequencies(),
      "damaged_places" => places(replay.report.damaged),
      "torn_bytes" => replay.report.torn,
      "newer_entries" => length(replay.unknown),
      "lost_jobs" => Enum.sort(replay.lost),
      "mended_jobs" => Enum.sort(replay.mended),
      "damaged_pipelines" =>
        for({id, problem} <- pipelines, do: %{"id" => id, "problem" => "#{problem}"}),
      "damaged_artifacts" => artifacts
    }
  end

  defp places(damaged),
    do: for({offset, bytes} <- damaged, do: %{"offset" => offset, "bytes" => bytes})
end
