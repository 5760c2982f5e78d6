defmodule Koma.Follower do
  @moduledoc """
  Follows one job or pipeline on behalf of the calling process: the one shape in which channels,
  event streams and waiting requests deal with both. The process that holds it hands it its
  messages (`handle/2`), and gets every event exactly once, in order.
  """

  alias Koma.{Caller, Error, Pipeline}
  alias Koma.Job.{Event, Preview}

  @terminal ~w(completed failed cancelled expired)

  @enforce_keys [:subject, :caller, :seq, :ended]
  defstruct [:subject, :caller, :seq, :ended]

  @type subject :: {:job | :pipeline, id :: String.t()}
  @type t :: %__MODULE__{
          subject: subject,
          caller: Caller.t(),
          seq: non_neg_integer | :none,
          ended: boolean
        }
  @typedoc "A preview with the stage it belongs to; a job alone has none."
  @type preview :: {stage :: String.t() | nil, Preview.t()}

  @doc "Whether nothing comes after an event of this type, and a state of this name is final."
  @spec terminal?(String.t()) :: boolean
  def terminal?(type), do: type in @terminal

  @doc """
  Begins to follow: the job or pipeline, its events after `seq`, and the latest previews. With
  `:none` it waits for the end of a job.

  A number that no event has had yet would hide all those up to it, with the end among them. It is
  refused as `out_of_bounds`; with `:clamp` for `beyond` it counts as that of the latest event.
  """
  @spec start(subject, non_neg_integer | :none, Caller.t(), beyond) ::
          {:ok, t, map, [Event.t()], [preview]} | {:error, Error.t()}
        when beyond: :refuse | :clamp
  def start(subject, seq, caller, beyond \\ :refuse) do
    with {:ok, seq} <- within(subject, seq, caller, beyond), do: follow(subject, seq, caller)
  end

  # Looked up before anything follows: whoever is refused has not wanted the job.
  defp within(_subject, seq, _caller, _beyond) when seq in [0, :none], do: {:ok, seq}

  defp within(subject, seq, caller, beyond) do
    case {get(subject, caller), beyond} do
      {{:error, error}, _beyond} -> {:error, error}
      {{:ok, %{"seq" => latest}}, _beyond} when seq <= latest -> {:ok, seq}
      {{:ok, %{"seq" => latest}}, :clamp} -> {:ok, latest}
      {{:ok, %{"seq" => latest}}, :refuse} -> {:error, beyond(subject, seq, latest)}
    end
  end

  defp beyond({kind, _id}, seq, latest) do
    message = "after is #{seq}, but the latest event of the #{kind} has the number #{latest}"
    Error.new("out_of_bounds", message, field: "after", value: seq, bound: latest)
  end

  defp follow(subject, seq, caller) do
    with {:ok, map, events, previews} <- subscribe(subject, seq, caller) do
      ended = terminal?(map["state"])
      follower = %__MODULE__{subject: subject, caller: caller, seq: seq, ended: ended}
      {:ok, Enum.reduce(events, follower, &seen(&2, &1)), map, events, previews}
    end
  end

  @doc "What a message of the calling process's mailbox means; `:other` if it is not about this."
  @spec handle(t, term) :: {:events, [Event.t()], t} | {:preview, preview} | :other
  def handle(%__MODULE__{subject: {:job, id}} = follower, {:koma_events, id, events}) do
    all(follower, events)
  end

  def handle(%__MODULE__{subject: {:pipeline, id}} = follower, {:koma_pipeline_event, id, event}) do
    all(follower, [event])
  end

  def handle(%__MODULE__{subject: {:job, id}}, {:koma_preview, id, preview}) do
    {:preview, {nil, preview}}
  end

  def handle(%__MODULE__{subject: {:pipeline, id}}, {:koma_pipeline_preview, id, stage, preview}) do
    {:preview, {stage, preview}}
  end

  def handle(_follower, _message), do: :other

  defp all(follower, events) do
    {new, follower} = Enum.flat_map_reduce(events, follower, &event/2)
    {:events, new, follower}
  end

  defp event(event, %__MODULE__{seq: :none} = follower), do: {[], seen(follower, event)}

  defp event(%Event{seq: seq} = event, %__MODULE__{seq: last} = follower) when seq == last + 1 do
    {[event], seen(follower, event)}
  end

  defp event(%Event{seq: seq}, %__MODULE__{seq: last} = follower) when seq <= last do
    {[], follower}
  end

  # What lies between was stored but not told, as a process died: it is fetched.
  defp event(_later, %__MODULE__{subject: subject, seq: last, caller: caller}) do
    {:ok, follower, _map, events, _previews} = follow(subject, last, caller)
    {events, follower}
  end

  defp seen(%__MODULE__{seq: :none} = follower, %Event{type: type}) do
    %__MODULE__{follower | ended: follower.ended or terminal?(type)}
  end

  defp seen(follower, %Event{seq: seq, type: type}) do
    %__MODULE__{follower | seq: seq, ended: follower.ended or terminal?(type)}
  end

  defp get({:job, id}, caller), do: Koma.job(id, caller)
  defp get({:pipeline, id}, caller), do: Pipeline.get(id, caller)

  defp subscribe({:job, id}, seq, caller) do
    with {:ok, job, events, preview} <- Koma.subscribe(id, seq, caller) do
      {:ok, job, events, if(preview, do: [{nil, preview}], else: [])}
    end
  end

  defp subscribe({:pipeline, id}, seq, caller), do: Pipeline.subscribe(id, seq, caller)
end
