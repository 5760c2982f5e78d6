defmodule Koma.Redis.Breaker do
  @moduledoc """
  A circuit breaker (M. Nygard, Release It!): after some failures in a row nobody waits for what
  does not answer. From time to time one trial is made, after a pause that grows and is spread
  at random, so that not all gateways come at once. Pure; times are ms of a monotonic clock.
  """

  @enforce_keys [:threshold, :min_ms, :max_ms]
  defstruct [:threshold, :min_ms, :max_ms, state: :closed, failures: 0, trials: 0]

  @type state :: :closed | :open | :half_open
  @type t :: %__MODULE__{
          state: state,
          threshold: pos_integer,
          min_ms: pos_integer,
          max_ms: pos_integer,
          failures: non_neg_integer,
          trials: non_neg_integer
        }

  @doc "Opens after `threshold` failures in a row; pauses last from `min_ms` to `max_ms`."
  @spec new(pos_integer, pos_integer, pos_integer) :: t
  def new(threshold, min_ms, max_ms) do
    %__MODULE__{threshold: threshold, min_ms: min_ms, max_ms: max_ms}
  end

  @doc "It answered: closed."
  @spec success(t) :: t
  def success(%__MODULE__{} = breaker) do
    %{breaker | state: :closed, failures: 0, trials: 0}
  end

  @doc "It did not answer; opens at the threshold, and at once when that was the trial."
  @spec failure(t) :: t
  def failure(%__MODULE__{state: :closed, failures: failures} = breaker) do
    breaker = %{breaker | failures: failures + 1}
    if breaker.failures >= breaker.threshold, do: open(breaker), else: breaker
  end

  def failure(%__MODULE__{} = breaker), do: open(breaker)

  @doc "Opens without counting: the connection is gone."
  @spec open(t) :: t
  def open(%__MODULE__{} = breaker), do: %{breaker | state: :open}

  @doc "The trial begins."
  @spec try(t) :: t
  def try(%__MODULE__{trials: trials} = breaker) do
    %{breaker | state: :half_open, trials: trials + 1}
  end

  @doc "The pause before the next trial; `random` in 0.0..1.0 chooses within its upper half."
  @spec pause_ms(t, float) :: pos_integer
  def pause_ms(%__MODULE__{min_ms: min_ms, max_ms: max_ms, trials: trials}, random) do
    longest = min(max_ms, min_ms * Integer.pow(2, min(trials, 20)))
    max(1, round(longest * (0.5 + random / 2)))
  end
end
