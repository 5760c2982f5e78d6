defmodule Koma.Queue.Rate do
  @moduledoc """
  How fast a queue moves, measured while jobs wait: the mean time between two departures, newer
  ones weighing more. Times are in milliseconds. While nobody waits nothing is measured, since an
  idle machine says nothing about how long a full one takes.
  """

  @keep 0.95

  defstruct elapsed: 0.0, departures: 0.0, last: nil

  @type t :: %__MODULE__{elapsed: float, departures: float, last: integer | nil}

  @doc "Before the first measurement."
  @spec new() :: t
  def new, do: %__MODULE__{}

  @doc "Somebody began to wait who could not go at once."
  @spec blocked(t, integer) :: t
  def blocked(%__MODULE__{last: nil} = rate, now), do: %{rate | last: now}
  def blocked(rate, _now), do: rate

  @doc "Somebody who had waited left."
  @spec departed(t, integer) :: t
  def departed(%__MODULE__{last: nil} = rate, now), do: %{rate | last: now}

  def departed(rate, now) do
    elapsed = @keep * rate.elapsed + max(now - rate.last, 0)
    %{rate | elapsed: elapsed, departures: @keep * rate.departures + 1, last: now}
  end

  @doc "Nobody waits any more."
  @spec idle(t) :: t
  def idle(rate), do: %{rate | last: nil}

  @doc "The estimated wait at a position, or nil while nothing was measured."
  @spec wait_ms(t, pos_integer) :: non_neg_integer | nil
  def wait_ms(%__MODULE__{departures: departures}, _position) when departures == 0.0, do: nil
  def wait_ms(rate, position), do: round(position * rate.elapsed / rate.departures)
end
