defmodule Koma.Redis.BreakerTest do
  use ExUnit.Case, async: true

  alias Koma.Redis.Breaker

  test "it opens at the threshold of failures in a row, not before" do
    breaker = 3 |> Breaker.new(100, 5_000) |> Breaker.failure() |> Breaker.failure()
    assert breaker.state == :closed
    assert Breaker.failure(breaker).state == :open
    assert (breaker |> Breaker.success() |> Breaker.failure()).state == :closed
  end

  test "a trial that fails opens it at once, one that succeeds closes it" do
    trial = 3 |> Breaker.new(100, 5_000) |> Breaker.open() |> Breaker.try()
    assert trial.state == :half_open
    assert Breaker.failure(trial).state == :open
    assert Breaker.success(trial).state == :closed
  end

  test "pauses double with each trial up to the longest, each in its upper half" do
    trials = Stream.iterate(Breaker.new(3, 100, 5_000), &(&1 |> Breaker.try() |> Breaker.open()))
    most = for breaker <- Enum.take(trials, 8), do: Breaker.pause_ms(breaker, 1.0)
    assert most == [100, 200, 400, 800, 1600, 3200, 5000, 5000]
    least = for breaker <- Enum.take(trials, 8), do: Breaker.pause_ms(breaker, 0.0)
    assert least == Enum.map(most, &div(&1, 2))
    assert Breaker.pause_ms(trials |> Enum.take(100) |> List.last(), 0.5) == 3750
  end

  test "after a success the pauses begin anew" do
    tired =
      Enum.reduce(1..10, Breaker.new(3, 100, 5_000), fn _, breaker -> Breaker.try(breaker) end)

    assert tired |> Breaker.success() |> Breaker.open() |> Breaker.pause_ms(1.0) == 100
  end
end
