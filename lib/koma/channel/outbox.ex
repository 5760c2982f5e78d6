defmodule Koma.Channel.Outbox do
  @moduledoc """
  What a channel still has to send to its socket: pure, and the place where slow readers are dealt with.

  At most `window/0` pushes are under way to the socket's process, which confirms each as it is
  written; the rest waits here. Events are never dropped: they are small, and a job has a bounded
  number of them. A preview is sent only while fewer than `preview_window/0` are under way; until
  then the latest of each key waits.
  """

  alias Koma.Channel.Preview

  @window 32
  # Enough that the next one is ready when one is written; a preview may have some MiB.
  @preview_window 2

  defstruct in_flight: 0, events: :queue.new(), previews: %{}

  @type event :: {name :: String.t(), json :: iodata}
  @type t :: %__MODULE__{
          in_flight: non_neg_integer,
          events: :queue.queue(event),
          previews: %{term => Preview.t()}
        }

  @doc "How many pushes may be under way."
  @spec window() :: pos_integer
  def window, do: @window

  @doc "How many may be under way when a preview is sent."
  @spec preview_window() :: pos_integer
  def preview_window, do: @preview_window

  @doc "Adds what a channel pushes."
  @spec put(t, Koma.Channel.push()) :: t
  def put(%__MODULE__{} = outbox, {:event, name, json}) do
    %__MODULE__{outbox | events: :queue.in({name, json}, outbox.events)}
  end

  def put(%__MODULE__{} = outbox, {:last, name, json}) do
    put(%__MODULE__{outbox | previews: %{}}, {:event, name, json})
  end

  def put(%__MODULE__{} = outbox, {:preview, key, %Preview{} = preview}) do
    %__MODULE__{outbox | previews: Map.put(outbox.previews, key, preview)}
  end

  @doc "So many pushes have been written."
  @spec written(t, pos_integer) :: t
  def written(%__MODULE__{in_flight: n} = outbox, count) when count in 1..n do
    %__MODULE__{outbox | in_flight: n - count}
  end

  @doc "Whether every event has been taken; a preview that waits does not count."
  @spec settled?(t) :: boolean
  def settled?(%__MODULE__{events: events}), do: :queue.is_empty(events)

  @doc "What may be sent now, in order, and the outbox without it."
  @spec take(t) :: {[{:event, event} | {:preview, Preview.t()}], t}
  def take(%__MODULE__{} = outbox), do: take(outbox, [])

  defp take(%__MODULE__{in_flight: n, events: events} = outbox, taken) when n < @window do
    case :queue.out(events) do
      {{:value, event}, events} ->
        take(%__MODULE__{outbox | in_flight: n + 1, events: events}, [{:event, event} | taken])

      {:empty, _events} ->
        take_preview(outbox, taken)
    end
  end

  defp take(outbox, taken), do: {Enum.reverse(taken), outbox}

  defp take_preview(%__MODULE__{in_flight: n, previews: previews} = outbox, taken)
       when n < @preview_window and previews != %{} do
    [{key, preview} | _rest] = Map.to_list(previews)
    outbox = %__MODULE__{outbox | in_flight: n + 1, previews: Map.delete(previews, key)}
    take_preview(outbox, [{:preview, preview} | taken])
  end

  defp take_preview(outbox, taken), do: {Enum.reverse(taken), outbox}
end
