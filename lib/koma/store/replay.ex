defmodule Koma.Store.Replay do
  @moduledoc "The jobs that a journal tells of, each with its events: pure."

  alias Koma.Job.{Event, Record}
  alias Koma.Store.Journal

  @typedoc "A job as it was left by its events, which are in order."
  @type job :: {Record.t(), [Event.t()]}

  @doc "Reads the bytes of a journal; also returns the length of their sound part."
  @spec jobs(binary) :: {[job], sound_bytes :: non_neg_integer}
  def jobs(bytes) do
    {jobs, sound} = Journal.fold(bytes, %{}, &entry/2)
    {for({_id, {record, latest_first}} <- jobs, do: {record, Enum.reverse(latest_first)}), sound}
  end

  defp entry({:accepted, record}, jobs), do: known(jobs, record, [])
  defp entry({:job, record, events}, jobs), do: known(jobs, record, Enum.reverse(events))

  defp entry({:event, id, event}, jobs) do
    case jobs do
      %{^id => {record, events}} ->
        %{jobs | id => {Record.apply(record, event), [event | events]}}

      _forgotten ->
        jobs
    end
  end

  defp entry({:forgotten, ids}, jobs), do: Map.drop(jobs, Enum.filter(ids, &ended?(jobs[&1])))

  defp known(jobs, record, events) do
    record = Record.upgrade(record)
    Map.put(jobs, record.id, {record, events})
  end

  defp ended?(nil), do: false
  defp ended?({record, _events}), do: Record.ended?(record)
end
