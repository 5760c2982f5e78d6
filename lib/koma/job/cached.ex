defmodule Koma.Job.Cached do
  @moduledoc "Jobs and the cache: a job that is answered by an earlier result, and one that leaves its."

  alias Koma.{Cache, ModelNode, Store, Telemetry}
  alias Koma.Job.Record

  @doc """
  Stores the job as completed with the result of an earlier one; its only event says `cached`. It has
  no `timings`: those of the earlier job tell nothing of this one.
  """
  @spec answer(Record.t(), Cache.result()) :: {:ok, Record.t()} | {:error, Koma.Error.t()}
  def answer(%Record{} = record, result) do
    data = %{
      "outputs" => result.outputs,
      "seed" => result.seed,
      "attempt" => 0,
      "cached" => true
    }

    event = Record.event(record, "completed", data)
    record = Record.apply(record, event)

    with :ok <- Store.Jobs.accept_ended(record, [event]) do
      metadata =
        record |> Map.take([:id, :task, :model]) |> Map.merge(%{state: "completed", code: nil})

      Telemetry.execute([:koma, :job, :finished], %{duration_ms: 0}, metadata)
      {:ok, record}
    end
  end

  @doc """
  Leaves the result of a completed job to later ones, unless its model nodes compute with another
  checkpoint now than when the job was accepted: then nobody knows which of the two it was.
  """
  @spec keep(Record.t()) :: :ok
  def keep(%Record{} = record) do
    if record.fingerprint != nil and
         ModelNode.Catalogue.checkpoint(record.model) == {:ok, record.checkpoint},
       do: Cache.put(record),
       else: :ok
  end
end
