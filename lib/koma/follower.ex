defmodule Koma.Follower do
  @moduledoc """
  Follows one job or pipeline on behalf of the calling process, over the death of its process.

  Jobs and pipelines are started again from what is stored when their process dies, but not with
  their subscribers. A follower notices, subscribes again after the last event it saw, and passes every
  event on exactly once. The process that holds it hands it its messages (`handle/2`).
  """

  alias Koma.{Caller, Job, Pipeline}
  alias Koma.Job.{Event, Preview}

  @terminal ~w(completed failed cancelled expired)
  # While the core restarts there is nobody to ask.
  @retry_ms 200

  @enforce_keys [:subject, :caller, :seq]
  defstruct [:subject, :caller, :seq, :monitor, ended: false]

  @type subject :: {:job | :pipeline, id :: String.t()}
  @type t :: %__MODULE__{
          subject: subject,
          caller: Caller.t(),
          seq: non_neg_integer,
          monitor: reference | nil,
          ended: boolean
        }
  @typedoc "A preview with the stage it belongs to; a job alone has none."
  @type preview :: {stage :: String.t() | nil, Preview.t()}

  @doc "Whether nothing comes after an event of this type."
  @spec terminal?(String.t()) :: boolean
  def terminal?(type), do: type in @terminal

  @doc "Begins to follow: the job or pipeline, its events after `seq`, and the latest previews."
  @spec start(subject, non_neg_integer, Caller.t()) ::
          {:ok, t, map, [Event.t()], [preview]} | {:error, Koma.Error.t()}
  def start(subject, seq, caller) do
    before = whereis(subject)
    monitor = if before, do: Process.monitor(before)

    with {:ok, map, events, previews} <- subscribe(subject, seq, caller) do
      if map["state"] in @terminal or (before != nil and whereis(subject) == before) do
        follower = %__MODULE__{subject: subject, caller: caller, seq: seq, monitor: monitor}
        {:ok, seen(follower, events, map["state"] in @terminal), map, events, previews}
      else
        # Another process than the one that is watched may have answered.
        if monitor, do: Process.demonitor(monitor, [:flush])
        start(subject, seq, caller)
      end
    end
  end

  @doc "What a message of the calling process's mailbox means; `:other` if it is not about this."
  @spec handle(t, term) :: {:events, [Event.t()], t} | {:preview, preview, t} | :other
  def handle(%__MODULE__{subject: {:job, id}} = follower, {:koma_event, id, event}) do
    event(follower, event)
  end

  def handle(%__MODULE__{subject: {:pipeline, id}} = follower, {:koma_pipeline_event, id, event}) do
    event(follower, event)
  end

  def handle(%__MODULE__{subject: {:job, id}} = follower, {:koma_preview, id, preview}) do
    {:preview, {nil, preview}, follower}
  end

  def handle(
        %__MODULE__{subject: {:pipeline, id}} = follower,
        {:koma_pipeline_preview, id, stage, preview}
      ) do
    {:preview, {stage, preview}, follower}
  end

  def handle(%__MODULE__{monitor: monitor} = follower, {:DOWN, monitor, :process, _pid, _reason}) do
    # After a normal end the last event is in the mailbox before this message.
    if follower.ended, do: {:events, [], follower}, else: again(follower)
  end

  def handle(%__MODULE__{subject: subject} = follower, {:koma_follow, subject}),
    do: again(follower)

  def handle(_follower, _message), do: :other

  @doc "Ends it; no message about the subject is in the mailbox afterwards."
  @spec stop(t) :: :ok
  def stop(%__MODULE__{subject: {kind, id}, monitor: monitor}) do
    if monitor, do: Process.demonitor(monitor, [:flush])
    if kind == :job, do: Koma.unsubscribe(id), else: Pipeline.unsubscribe(id)
  end

  defp event(%__MODULE__{seq: seen} = follower, %Event{seq: seq} = event) when seq > seen do
    {:events, [event], seen(follower, [event], false)}
  end

  defp event(follower, _seen_before), do: {:events, [], follower}

  defp again(%__MODULE__{subject: subject, seq: seq, caller: caller} = follower) do
    case start(subject, seq, caller) do
      {:ok, follower, _map, events, _previews} -> {:events, events, follower}
      {:error, _forgotten} -> {:events, [], %__MODULE__{follower | ended: true}}
    end
  rescue
    # The tables of the store are gone while it restarts.
    ArgumentError -> retry(follower)
  catch
    :exit, _reason -> retry(follower)
  end

  defp retry(%__MODULE__{subject: subject} = follower) do
    _timer = Process.send_after(self(), {:koma_follow, subject}, @retry_ms)
    {:events, [], %__MODULE__{follower | monitor: nil}}
  end

  defp seen(follower, [], ended?), do: %__MODULE__{follower | ended: follower.ended or ended?}

  defp seen(follower, events, ended?) do
    last = List.last(events)
    ended? = follower.ended or ended? or terminal?(last.type)
    %__MODULE__{follower | seq: last.seq, ended: ended?}
  end

  defp subscribe({:job, id}, seq, caller) do
    with {:ok, job, events, preview} <- Koma.subscribe(id, seq, caller) do
      {:ok, job, events, if(preview, do: [{nil, preview}], else: [])}
    end
  end

  defp subscribe({:pipeline, id}, seq, caller), do: Pipeline.subscribe(id, seq, caller)

  defp whereis({:job, id}), do: Job.Processes.whereis(id)
  defp whereis({:pipeline, id}), do: Pipeline.whereis(id)
end
