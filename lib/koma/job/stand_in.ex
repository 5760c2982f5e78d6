defmodule Koma.Job.StandIn do
  @moduledoc """
  Events in place of those that a damaged journal has lost, so that the numbers of a job have no
  gap and every event may follow the one before it. They say as little as they can. Pure.
  """

  alias Koma.Job.{Event, Lifecycle, Record, Retry}

  # The first that leads to a state is taken.
  @types ~w(progress queued started retrying)

  @doc """
  The events between a record and an event that came later, and the record after them; `:error`
  where no story leads from one to the other.
  """
  @spec between(Record.t(), Event.t()) :: {:ok, Record.t(), [Event.t()]} | :error
  def between(%Record{} = record, %Event{} = later) do
    missing = later.seq - record.seq - 1

    with true <- missing >= 0,
         {:ok, types} <- path(record.state, later.type, missing) do
      {events, record} = Enum.map_reduce(types, record, &event(&1, &2, later.at))
      {:ok, record, events}
    else
      _no_story -> :error
    end
  end

  defp path(state, type, length) do
    ways = Enum.reduce(1..length//1, %{state => []}, fn _nth, ways -> step(ways) end)

    Enum.find_value(ways, :error, fn {state, types} ->
      if Lifecycle.next(state, type) != :error, do: {:ok, Enum.reverse(types)}
    end)
  end

  # One event further: every state that can be reached, and how.
  defp step(ways) do
    for type <- @types, {state, types} <- ways, reduce: %{} do
      further ->
        case Lifecycle.next(state, type) do
          {:ok, next} -> Map.put_new(further, next, [type | types])
          :error -> further
        end
    end
  end

  defp event(type, record, at) do
    event = %Event{seq: record.seq + 1, type: type, at: at, data: data(type, record)}
    {event, Record.apply(record, event)}
  end

  defp data("queued", _record), do: %{"position" => 1, "wait_ms" => nil}
  defp data("retrying", record), do: Retry.told(record.attempt, Retry.stopped())

  defp data("started", record) do
    %{"attempt" => record.attempt + 1, "node" => record.node, "total" => 0, "estimate_ms" => 0}
  end

  defp data("progress", record) do
    about = %{"phase" => "unknown", "step" => 0, "total" => 0, "eta_ms" => nil}
    Map.put(about, "attempt", record.attempt)
  end
end
