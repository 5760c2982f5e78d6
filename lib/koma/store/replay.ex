defmodule Koma.Store.Replay do
  @moduledoc """
  The jobs that a journal tells of, each with its events: pure.

  Where damage has taken events of a job, others stand in for them (`Koma.Job.StandIn`); a job whose acceptance
  it has taken is lost. Entries that this version does not know are handed back as they are.
  """

  alias Koma.Job.{Event, Record, StandIn}
  alias Koma.Store.Journal

  defstruct jobs: %{}, unknown: [], lost: MapSet.new(), mended: MapSet.new(), report: nil

  @typedoc "A job as it was left by its events, which are in order."
  @type job :: {Record.t(), [Event.t()]}

  @typedoc """
  `unknown`: entries of a newer version, in order; `lost`: the ids of jobs of which only
  events are left; `mended`: those of jobs with events that stand in for others.
  """
  @type t :: %__MODULE__{
          jobs: %{String.t() => {Record.t(), latest_first :: [Event.t()]}},
          unknown: [term],
          lost: MapSet.t(String.t()),
          mended: MapSet.t(String.t()),
          report: Journal.report()
        }

  @doc "Reads the bytes of a journal."
  @spec read(binary) :: t
  def read(bytes) do
    {replay, report} = Journal.fold(bytes, %__MODULE__{}, &entry/2)
    %{replay | unknown: Enum.reverse(replay.unknown), report: report}
  end

  @doc "The jobs, each with its events in order."
  @spec jobs(t) :: [job]
  def jobs(%__MODULE__{jobs: jobs}) do
    for {_id, {record, latest_first}} <- jobs, do: {record, Enum.reverse(latest_first)}
  end

  defp entry({:accepted, %Record{} = record}, replay), do: known(replay, record, [])

  defp entry({:job, %Record{} = record, events}, replay) when is_list(events) do
    known(replay, record, Enum.reverse(events))
  end

  defp entry({:event, id, %Event{} = event}, replay) do
    case replay.jobs do
      %{^id => job} -> put(replay, id, happened(job, event), event)
      _no_such_job -> %{replay | lost: MapSet.put(replay.lost, id)}
    end
  end

  defp entry({:forgotten, ids}, replay) when is_list(ids) do
    jobs = Map.drop(replay.jobs, Enum.filter(ids, &ended?(replay.jobs[&1])))
    %{replay | jobs: jobs, lost: MapSet.difference(replay.lost, MapSet.new(ids))}
  end

  defp entry(unknown, replay), do: %{replay | unknown: [unknown | replay.unknown]}

  defp known(replay, record, events) do
    record = Record.upgrade(record)
    %{replay | jobs: Map.put(replay.jobs, record.id, {record, events})}
  end

  defp put(replay, id, {record, events, stand_ins}, event) do
    events = [event | Enum.reverse(stand_ins, events)]
    mended = if stand_ins == [], do: replay.mended, else: MapSet.put(replay.mended, id)
    %{replay | jobs: Map.put(replay.jobs, id, {record, events}), mended: mended}
  end

  # It was written twice, or is of a kind that this version does not know.
  defp put(replay, _id, :ignored, _event), do: replay

  defp happened({record, events}, event) do
    with {:ok, record, stand_ins} <- StandIn.between(record, event) do
      {Record.apply(record, event), events, stand_ins}
    else
      :error -> :ignored
    end
  end

  defp ended?(nil), do: false
  defp ended?({record, _events}), do: Record.ended?(record)
end
