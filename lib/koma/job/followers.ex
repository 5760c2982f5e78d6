defmodule Koma.Job.Followers do
  @moduledoc """
  The processes that follow jobs, by job id. All get every event, but those that only wait for the
  end, which get the last one; a preview goes only to those whose mailbox is short, since a newer
  one will come.

  They are kept outside the jobs' processes, and outside `Koma.Core`, so that whoever follows a
  job goes on following it when its process, or all of Core, has to start again. For the same
  reason two numbers are kept here: of the last event that was told, since a job that starts again first
  tells what was stored but not told; and of the last attempt that was sent to a model node,
  since no two attempts may have the same number, even if nothing was stored of the first.
  """

  alias Koma.Job.{Event, Lifecycle, Preview}

  @type wish :: :events | :end

  @doc "The registry of followers."
  @spec child_spec(term) :: Supervisor.child_spec()
  def child_spec(_options), do: Registry.child_spec(keys: :duplicate, name: __MODULE__)

  @doc "The calling process follows the job; twice is the same as once."
  @spec join(String.t(), wish) :: :ok
  def join(id, wish \\ :events) do
    leave(id)
    {:ok, _registry} = Registry.register(__MODULE__, id, wish)
    :ok
  end

  @doc "The calling process does not follow it any more."
  @spec leave(String.t()) :: :ok
  def leave(id), do: Registry.unregister(__MODULE__, id)

  @doc "The processes that follow the job."
  @spec pids(String.t()) :: [pid]
  def pids(id), do: for({pid, _wish} <- Registry.lookup(__MODULE__, id), do: pid)

  defp pids(id, wish), do: for({pid, ^wish} <- Registry.lookup(__MODULE__, id), do: pid)

  @doc "Whether anybody follows the job."
  @spec any?(String.t()) :: boolean
  def any?(id), do: pids(id) != []

  @doc "Tells everybody of stored events, oldest first: what happened at once is told at once."
  @spec tell(String.t(), [Event.t()]) :: :ok
  def tell(_id, []), do: :ok

  def tell(id, events) do
    %Event{} = last = List.last(events)
    tell_all(pids(id, :events), id, events)
    if Lifecycle.terminal?(last.type), do: tell_end(id, last)
    Registry.put_meta(__MODULE__, {:told, id}, last.seq)
  end

  defp tell_all([], _id, _events), do: :ok

  defp tell_all(pids, id, events) do
    message = {:koma_events, id, Enum.map(events, &Event.encode(&1, id))}
    Enum.each(pids, &send(&1, message))
  end

  defp tell_end(id, event), do: Enum.each(pids(id, :end), &send(&1, {:koma_events, id, [event]}))

  @doc "The number of the last event that was told; nil when none was by this BEAM."
  @spec told(String.t()) :: pos_integer | nil
  def told(id) do
    case Registry.meta(__MODULE__, {:told, id}) do
      {:ok, seq} -> seq
      :error -> nil
    end
  end

  @doc "An attempt is about to be sent to a model node."
  @spec attempted(String.t(), pos_integer) :: :ok
  def attempted(id, attempt), do: Registry.put_meta(__MODULE__, {:attempted, id}, attempt)

  @doc "The number of the last attempt that this BEAM sent to a model node; 0 if it sent none."
  @spec attempts(String.t()) :: non_neg_integer
  def attempts(id) do
    case Registry.meta(__MODULE__, {:attempted, id}) do
      {:ok, attempt} -> attempt
      :error -> 0
    end
  end

  @doc "The job has ended: no more will be told."
  @spec ended(String.t()) :: :ok
  def ended(id) do
    :ok = Registry.delete_meta(__MODULE__, {:attempted, id})
    Registry.delete_meta(__MODULE__, {:told, id})
  end

  @doc "Shows a preview to those who keep up."
  @spec show(String.t(), Preview.t()) :: :ok
  def show(id, %Preview{} = preview) do
    {preview, pids} = Preview.for_all(preview, pids(id, :events), {id, %{}})
    Enum.each(pids, &send(&1, {:koma_preview, id, preview}))
  end

  @doc "Takes the events up to `seq` out of the calling process's mailbox: it knows them."
  @spec skip(String.t(), non_neg_integer) :: :ok
  def skip(id, seq) do
    receive do
      {:koma_events, ^id, [%Event{seq: known} | told_with_it]} when known <= seq ->
        keep(id, Enum.drop_while(told_with_it, &(&1.seq <= seq)))
        skip(id, seq)
    after
      0 -> :ok
    end
  end

  defp keep(_id, []), do: :ok
  defp keep(id, events), do: send(self(), {:koma_events, id, events})

  @doc "Takes everything about a job out of the calling process's mailbox."
  @spec forget(String.t()) :: :ok
  def forget(id) do
    receive do
      {:koma_events, ^id, _events} -> forget(id)
      {:koma_preview, ^id, _preview} -> forget(id)
    after
      0 -> :ok
    end
  end
end
