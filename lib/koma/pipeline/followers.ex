defmodule Koma.Pipeline.Followers do
  @moduledoc """
  The processes that follow pipelines, by id. They are kept outside the pipelines' processes, so
  that whoever follows one goes on following it when its process has to start again.
  """

  alias Koma.Job.{Event, Preview}

  @doc "The registry of followers."
  @spec child_spec(term) :: Supervisor.child_spec()
  def child_spec(_options), do: Registry.child_spec(keys: :duplicate, name: __MODULE__)

  @doc "The calling process follows the pipeline; twice is the same as once."
  @spec join(String.t()) :: :ok
  def join(id) do
    :ok = leave(id)
    {:ok, _registry} = Registry.register(__MODULE__, id, nil)
    :ok
  end

  @doc "The calling process does not follow it any more."
  @spec leave(String.t()) :: :ok
  def leave(id), do: Registry.unregister(__MODULE__, id)

  @doc "The processes that follow it."
  @spec pids(String.t()) :: [pid]
  def pids(id), do: for({pid, nil} <- Registry.lookup(__MODULE__, id), do: pid)

  @doc "Tells everybody of a stored event."
  @spec tell(String.t(), Event.t()) :: :ok
  def tell(id, %Event{} = event) do
    tell_all(pids(id), {:koma_pipeline_event, id, Event.encode(event, id)})
  end

  @doc "Shows a preview to those who keep up."
  @spec show(String.t(), String.t(), Preview.t()) :: :ok
  def show(id, stage, preview) do
    {preview, pids} = Preview.for_all(preview, pids(id), {id, %{"stage" => stage}})
    tell_all(pids, {:koma_pipeline_preview, id, stage, preview})
  end

  @doc "Takes the events up to `seq` out of the calling process's mailbox: it knows them."
  @spec skip(String.t(), non_neg_integer) :: :ok
  def skip(id, seq) do
    receive do
      {:koma_pipeline_event, ^id, %Event{seq: known}} when known <= seq -> skip(id, seq)
    after
      0 -> :ok
    end
  end

  @doc "Takes everything about a pipeline out of the calling process's mailbox."
  @spec forget(String.t()) :: :ok
  def forget(id) do
    receive do
      {:koma_pipeline_event, ^id, _event} -> forget(id)
      {:koma_pipeline_preview, ^id, _stage, _preview} -> forget(id)
    after
      0 -> :ok
    end
  end

  defp tell_all(pids, message), do: Enum.each(pids, &send(&1, message))
end
