defmodule Koma.Store.Redis.Stored do
  @moduledoc """
  What lies in Redis, read with doubt: anybody may have written there, and a byte may have
  flipped. A record that cannot be worked with is an error. Events that are missing or cannot be
  read are not: the job can run without them, so others take their places and numbers. Pure.
  """

  alias Koma.Job.{Event, Lifecycle, Record}

  # More events than this are not made up, whatever a damaged number says.
  @most_missing 100_000

  @doc "A stored record; `seq`, the number of its last event, is kept beside it."
  @spec record(id :: String.t(), blob :: binary, seq :: binary) :: {:ok, Record.t()} | :damaged
  def record(id, blob, seq) do
    with {:ok, %Record{} = stored} <- term(blob),
         %Record{id: ^id} = record <- Record.upgrade(stored),
         true <- sound?(record),
         {seq, ""} when seq in 0..(record.seq + @most_missing)//1 <- Integer.parse(seq) do
      {:ok, %{record | seq: seq}}
    else
      _unusable -> :damaged
    end
  end

  defp term(blob) do
    {:ok, :erlang.binary_to_term(blob)}
  rescue
    ArgumentError -> :damaged
  end

  # Whatever type a field is said to have, anything may lie in Redis.
  defp sound?(%Record{} = record) do
    record = Map.from_struct(record)
    texts = [record.id, record.task, record.model, record.priority, record.on_disconnect]
    counts = [record.attempt, record.losses, record.peer_losses, record.epoch, record.seq]
    optional = [record.finished_at, record.deadline_ms, record.seed]

    Enum.all?(texts, &text?/1) and Enum.all?(counts, &count?/1) and is_integer(record.created_at) and
      Enum.all?(optional, &(&1 == nil or is_integer(&1))) and
      (record.key == nil or text?(record.key)) and
      is_map(record.params) and inputs?(record.inputs) and outputs?(record.outputs) and
      record.state in Lifecycle.states() and
      Lifecycle.terminal?(record.state) == is_integer(record.finished_at)
  end

  defp text?(value), do: is_binary(value) and String.valid?(value)
  defp count?(value), do: is_integer(value) and value >= 0

  defp inputs?(value),
    do: is_map(value) and Enum.all?(value, fn {k, v} -> text?(k) and text?(v) end)

  defp outputs?(nil), do: true
  defp outputs?(value), do: is_list(value) and Enum.all?(value, &is_map/1)

  @doc """
  The events of a live job up to the number of its record, oldest first, and whether all of them
  were as they should be. Of very many that are missing the last are left out.
  """
  @spec events([binary], Record.t()) :: {[Event.t()], sound? :: boolean}
  def events(blobs, %Record{seq: seq} = record) do
    found =
      blobs |> Enum.take(seq) |> Enum.with_index(1) |> Enum.map(fn {b, n} -> event(b, n) end)

    missing = List.duplicate(:damaged, min(seq - length(found), @most_missing))
    sound? = missing == [] and length(blobs) == seq and :damaged not in found
    {(found ++ missing) |> Enum.with_index(1) |> Enum.map(&replace(&1, record)), sound?}
  end

  @doc "The events of a live job from the one after a number on, as far as they were written."
  @spec later_events([binary], after_seq :: non_neg_integer, Record.t()) :: [Event.t()]
  def later_events(blobs, after_seq, %Record{seq: seq} = record) do
    blobs
    |> Enum.take(max(seq - after_seq, 0))
    |> Enum.with_index(after_seq + 1)
    |> Enum.map(fn {blob, n} -> replace({event(blob, n), n}, record) end)
  end

  @doc "The events of a job that has ended, after a number."
  @spec packed(binary, after_seq :: non_neg_integer, Record.t()) :: [Event.t()]
  def packed(blob, after_seq, %Record{seq: seq} = record) do
    events =
      case term(blob) do
        {:ok, [%Event{} | _] = events} -> Enum.zip(events, 1..length(events))
        _damaged -> []
      end

    sound? = length(events) == seq and Enum.all?(events, fn {event, n} -> sound?(event, n) end)
    events = if sound?, do: Enum.map(events, &elem(&1, 0)), else: made_up(record)
    Enum.filter(events, &(&1.seq > after_seq))
  end

  # The record knows how the job ended; what led to it is lost.
  defp made_up(%Record{seq: seq} = record) do
    earlier = max(1, seq - @most_missing)..(seq - 1)//1
    Enum.map(earlier, &replace({:damaged, &1}, record)) ++ [end_of(record)]
  end

  defp event(blob, number) do
    with {:ok, event} <- term(blob), true <- sound?(event, number) do
      event
    else
      _damaged -> :damaged
    end
  end

  defp sound?(%Event{seq: number, type: type, at: at, data: data}, number) do
    is_integer(at) and is_map(data) and type in Lifecycle.events()
  end

  defp sound?(_other, _number), do: false

  defp replace({%Event{} = event, _number}, _record), do: event

  # Of all events this one says least: the job waits somewhere.
  defp replace({:damaged, number}, record) do
    data = %{"position" => 1, "wait_ms" => nil}
    %Event{seq: number, type: "queued", at: record.created_at, data: data}
  end

  defp end_of(%Record{state: "completed"} = record) do
    data = %{"outputs" => record.outputs, "timings" => record.timings, "seed" => record.seed}
    %Event{seq: record.seq, type: "completed", at: record.finished_at, data: data}
  end

  defp end_of(%Record{} = record) do
    %Event{seq: record.seq, type: record.state, at: record.finished_at, data: record.error || %{}}
  end
end
