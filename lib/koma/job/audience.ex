defmodule Koma.Job.Audience do
  @moduledoc """
  Whether anybody still wants a job, or a pipeline: the process that submitted it and those that follow
  it, each monitored by the calling process of the job. When the last one goes, a timer starts; when it
  ends and nobody has come, the job is to be cancelled (`{:absent, timer}` in the mailbox).

  That is so for interactive jobs and for pipelines with `on_disconnect` `cancel`; for others nothing is
  watched. What goes on after a restart has lost its audience through no fault of theirs: it is only
  cancelled once somebody has come back and gone again.
  """

  defstruct grace_ms: nil, members: %{}, timer: nil

  @type role :: :submitter | :follower
  @type t :: %__MODULE__{
          grace_ms: non_neg_integer | nil,
          members: %{reference => {role, pid}},
          timer: reference | nil
        }

  @doc "An audience, of the followers so far and, if it is known, the submitter; of nobody if not `watched?`."
  @spec new(watched? :: boolean, grace_ms :: non_neg_integer, pid | nil, [pid]) :: t
  def new(false, _grace_ms, _submitter, _pids), do: %__MODULE__{}

  def new(true, grace_ms, submitter, pids) do
    audience = %__MODULE__{grace_ms: grace_ms}
    audience = if submitter, do: add(audience, :submitter, submitter), else: audience
    Enum.reduce(pids, audience, &follow(&2, &1))
  end

  @doc "A process follows the job; twice is the same as once."
  @spec follow(t, pid) :: t
  def follow(%__MODULE__{grace_ms: nil} = audience, _pid), do: audience

  def follow(audience, pid) do
    if member(audience, pid), do: audience, else: add(audience, :follower, pid)
  end

  @doc "A process follows it no longer; harmless if it did not."
  @spec leave(t, pid) :: t
  def leave(audience, pid) do
    case member(audience, pid) do
      nil ->
        audience

      ref ->
        Process.demonitor(ref, [:flush])
        remove(audience, ref)
    end
  end

  @doc "A monitored process died; `:unknown` if it is not one of these."
  @spec down(t, reference) :: {:ok, t} | :unknown
  def down(%__MODULE__{members: members} = audience, ref) do
    if is_map_key(members, ref), do: {:ok, remove(audience, ref)}, else: :unknown
  end

  @doc "Whether the timer that ended is the one that counts: nobody came meanwhile."
  @spec absent?(t, reference) :: boolean
  def absent?(%__MODULE__{timer: timer}, ended), do: timer == ended

  defp member(%{members: members}, pid) do
    Enum.find_value(members, fn {ref, member} -> if member == {:follower, pid}, do: ref end)
  end

  defp add(audience, role, pid) do
    members = Map.put(audience.members, Process.monitor(pid), {role, pid})
    %{audience | members: members, timer: nil}
  end

  defp remove(audience, ref) do
    audience = %{audience | members: Map.delete(audience.members, ref)}
    if audience.members == %{}, do: start_timer(audience), else: audience
  end

  defp start_timer(%{grace_ms: grace_ms} = audience) do
    timer = make_ref()
    _timer = Process.send_after(self(), {:absent, timer}, grace_ms)
    %{audience | timer: timer}
  end
end
