defmodule Koma.ModelNode.Pending do
  @moduledoc """
  The jobs that a model node works on, by id, each with the process that waits for it.

  A job that nobody waits for any more (cancelled, or its process died) is *abandoned*: it stays
  here until Python has let go of it, because it holds a slot until then, and its output folder
  is deleted when it does.
  """

  alias Koma.{Error, Telemetry}
  alias Koma.Wire.Messages.{Done, Failed, Submit}

  defstruct jobs: %{}, refs: %{}

  @type entry :: %{
          job: pid | :abandoned,
          ref: reference,
          attempt: pos_integer,
          output_dir: Path.t(),
          since: integer
        }
  @type t :: %__MODULE__{jobs: %{String.t() => entry}, refs: %{reference => String.t()}}

  @doc "No jobs."
  @spec new() :: t
  def new, do: %__MODULE__{}

  @doc "The ids of the jobs that hold a slot."
  @spec ids(t) :: [String.t()]
  def ids(%__MODULE__{jobs: jobs}), do: Map.keys(jobs)

  @doc "A job process waits for this attempt; it is monitored."
  @spec put(t, Submit.t(), pid) :: t
  def put(%__MODULE__{} = pending, %Submit{id: id} = submit, job) do
    ref = Process.monitor(job)

    entry = %{
      job: job,
      ref: ref,
      attempt: submit.attempt,
      output_dir: submit.output_dir,
      since: now_us()
    }

    %{pending | jobs: Map.put(pending.jobs, id, entry), refs: Map.put(pending.refs, ref, id)}
  end

  @doc "The job whose process had this monitor."
  @spec find(t, reference) :: {:ok, String.t()} | :error
  def find(%__MODULE__{refs: refs}, ref), do: Map.fetch(refs, ref)

  @doc "Nobody waits for this job any more."
  @spec abandon(t, String.t()) :: {:ok, t} | :already | :unknown
  def abandon(%__MODULE__{jobs: jobs} = pending, id) do
    case jobs do
      %{^id => %{job: :abandoned}} ->
        :already

      %{^id => entry} ->
        Process.demonitor(entry.ref, [:flush])
        jobs = Map.put(jobs, id, %{entry | job: :abandoned})
        {:ok, %{pending | jobs: jobs, refs: Map.delete(pending.refs, entry.ref)}}

      _none ->
        :unknown
    end
  end

  @doc "Passes a message of the model node on to the job's process."
  @spec message(t, String.t(), struct) :: {:going_on, t} | {:ended, t} | :unknown
  def message(%__MODULE__{jobs: jobs} = pending, id, %module{} = message) do
    case jobs do
      %{^id => entry} ->
        measure(entry, message)
        tell(entry, id, message)
        if module in [Done, Failed], do: {:ended, delete(pending, id)}, else: {:going_on, pending}

      _none ->
        :unknown
    end
  end

  @doc "The model node is gone: tells everybody who waits, and forgets all."
  @spec lose(t, Error.t()) :: t
  def lose(%__MODULE__{jobs: jobs}, error) do
    for {id, entry} <- jobs do
      Process.demonitor(entry.ref, [:flush])
      tell(entry, id, {:lost, error})
    end

    new()
  end

  # What the gateway and the pipe add to what the model node needed.
  defp measure(%{since: since}, %Done{timings: %{"total_ms" => total_ms}}) do
    Telemetry.spent(:model_node, now_us() - since)
    Telemetry.spent(:runtime, round(total_ms * 1000))
  end

  defp measure(_entry, _message), do: :ok

  defp now_us, do: System.monotonic_time(:microsecond)

  defp tell(%{job: :abandoned} = entry, _id, message) do
    if ends?(message), do: remove_outputs(entry.output_dir)
  end

  defp tell(%{job: job, attempt: attempt}, id, message) do
    send(job, {:model_node, id, attempt, message})
  end

  defp ends?({:lost, _error}), do: true
  defp ends?(%module{}), do: module in [Done, Failed]

  # Deleting large files takes time that the owner of the port does not have.
  defp remove_outputs(dir) do
    {:ok, _pid} = Task.start(fn -> File.rm_rf(dir) end)
    :ok
  end

  defp delete(pending, id) do
    {entry, jobs} = Map.pop!(pending.jobs, id)
    Process.demonitor(entry.ref, [:flush])
    %{pending | jobs: jobs, refs: Map.delete(pending.refs, entry.ref)}
  end
end
