defmodule Koma.StoreSteps do
  @moduledoc "What tests of stores do to them: events of a job, and a disk that is full."

  import ExUnit.Assertions

  alias Koma.Job.Record
  alias Koma.Store.Jobs

  @doc "Stores an event of each of these types; returns the record after the last."
  @spec run(Record.t(), [String.t()]) :: Record.t()
  def run(record, types) do
    Enum.reduce(types, record, fn type, record ->
      event = Record.event(record, type, %{"attempt" => 1, "node" => "toy-1"})
      record = Record.apply(record, event)
      assert Jobs.append([{record, event}]) == [:ok]
      record
    end)
  end

  @doc "Fills the file system of `path` with that file, to the last byte."
  @spec fill(Path.t()) :: :ok
  def fill(path) do
    {:ok, file} = :file.open(path, [:write, :raw])
    fill_up(file, 1024 * 1024)
    :ok = :file.close(file)
  end

  defp fill_up(_file, 0), do: :ok

  defp fill_up(file, size) do
    case :file.write(file, :binary.copy("x", size)) do
      :ok -> fill_up(file, size)
      {:error, :enospc} -> fill_up(file, div(size, 2))
    end
  end
end
