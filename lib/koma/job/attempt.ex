defmodule Koma.Job.Attempt do
  @moduledoc """
  One run of a job on a model node: what it is sent, and the folder of its outputs. The model node
  makes the folder when it has something to write; most jobs of text never do.
  """

  alias Koma.{Cluster, Error, Store, Transfer}
  alias Koma.Job.Record
  alias Koma.Scheduler.Lease
  alias Koma.Store.Artifacts
  alias Koma.Wire.Messages.Submit

  @doc """
  Makes the message for attempt number `attempt`. A model node of another peer gets the ids of its
  inputs; that peer fetches the files.
  """
  @spec prepare(Record.t(), pos_integer, Lease.t(), previews? :: boolean) ::
          {:ok, Submit.t()} | {:error, Error.t()}
  def prepare(%Record{} = record, attempt, %Lease{peer: peer}, previews?) do
    inputs = if peer, do: {:ok, record.inputs}, else: inputs(record.inputs, &fetch/1)

    with {:ok, inputs} <- inputs do
      {:ok, submit(record, attempt, inputs, previews?)}
    end
  end

  @doc "Deletes the folders of the attempts up to `last`: a job process that died left its own."
  @spec clean_all(Record.t(), non_neg_integer) :: :ok
  def clean_all(record, last), do: Enum.each(1..last//1, &clean(record, &1))

  @doc "Deletes the folder of one attempt with what is still in it."
  @spec clean(Record.t(), pos_integer) :: :ok
  def clean(%Record{id: id}, attempt) do
    _may_be_gone = File.rm_rf(Store.work_dir(id, attempt))
    :ok
  end

  defp submit(record, attempt, inputs, previews?) do
    %Submit{
      id: record.id,
      attempt: attempt,
      task: record.task,
      params: record.params,
      inputs: inputs,
      output_dir: Store.work_dir(record.id, attempt),
      previews: previews?
    }
  end

  @doc "The inputs as a model node gets them, each by `fetch`; the error of the first that it lacks."
  @spec inputs(
          %{String.t() => artifact :: String.t()},
          (String.t() -> {:ok, Artifacts.artifact()} | {:error, Error.t()})
        ) :: {:ok, %{String.t() => map}} | {:error, Error.t()}
  def inputs(ids, fetch) do
    Enum.reduce_while(ids, {:ok, %{}}, fn {name, id}, {:ok, found} ->
      case fetch.(id) do
        {:ok, artifact} -> {:cont, {:ok, Map.put(found, name, input(artifact))}}
        {:error, error} -> {:halt, {:error, %{error | field: "inputs.#{name}"}}}
      end
    end)
  end

  # A job that was adopted from another gateway may have left its inputs there.
  defp fetch(id),
    do: if(Cluster.on?(), do: Transfer.ensure(id), else: Artifacts.fetch(id))

  defp input(artifact) do
    artifact |> Map.take([:path, :media_type, :bytes]) |> Map.put(:sha256, artifact.id)
  end
end
