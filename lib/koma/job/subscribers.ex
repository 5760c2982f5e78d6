defmodule Koma.Job.Subscribers do
  @moduledoc """
  The processes that follow a job. All get every event; a preview goes only to those whose
  mailbox is short, since a newer one will come.
  """

  alias Koma.Job.{Event, Preview}

  # A reader this far behind would see old previews.
  @long_mailbox 32

  defstruct refs: %{}

  @type t :: %__MODULE__{refs: %{pid => reference}}

  @doc "Nobody."
  @spec new() :: t
  def new, do: %__MODULE__{}

  @doc "Adds a process, monitored; twice is the same as once."
  @spec add(t, pid) :: t
  def add(%__MODULE__{refs: refs} = subscribers, pid) do
    %{subscribers | refs: Map.put_new_lazy(refs, pid, fn -> Process.monitor(pid) end)}
  end

  @doc "Takes a process out; harmless when it is not in."
  @spec delete(t, pid) :: t
  def delete(%__MODULE__{refs: refs} = subscribers, pid) do
    {ref, refs} = Map.pop(refs, pid)
    if ref, do: Process.demonitor(ref, [:flush])
    %{subscribers | refs: refs}
  end

  @doc "Whether a process follows the job."
  @spec member?(t, pid) :: boolean
  def member?(%__MODULE__{refs: refs}, pid), do: is_map_key(refs, pid)

  @doc "Whether nobody does."
  @spec empty?(t) :: boolean
  def empty?(%__MODULE__{refs: refs}), do: refs == %{}

  @doc "Tells everybody of an event."
  @spec event(t, String.t(), Event.t()) :: :ok
  def event(%__MODULE__{refs: refs}, id, %Event{} = event) do
    Enum.each(refs, fn {pid, _ref} -> send(pid, {:koma_event, id, event}) end)
  end

  @doc "Shows a preview to those who keep up."
  @spec preview(t, String.t(), Preview.t()) :: :ok
  def preview(%__MODULE__{refs: refs}, id, %Preview{} = preview) do
    for {pid, _ref} <- refs, keeps_up?(pid), do: send(pid, {:koma_preview, id, preview})
    :ok
  end

  defp keeps_up?(pid) when node(pid) != node(), do: true

  defp keeps_up?(pid) do
    case Process.info(pid, :message_queue_len) do
      {:message_queue_len, length} -> length < @long_mailbox
      nil -> false
    end
  end
end
