defmodule Koma.Dashboard.QuantileTest do
  use ExUnit.Case, async: false

  alias Koma.Dashboard.Quantile
  alias Koma.Metrics.{Definitions, Table}

  @bounds List.to_tuple(Definitions.seconds())
  # What docs/telemetry.md promises of every quantile of the dashboard, beside the rounding to a millisecond.
  @wrong 0.15

  setup do
    :rand.seed(:exsss, 7)
    Table.create()
  end

  # As the dashboard reads them, after the same counting.
  defp told(durations_ms, q) do
    for ms <- durations_ms, do: Table.observe_ms(:koma_job_duration_seconds, ["toy"], ms)
    [{["toy"], {counts, _sum}}] = Table.read()[:koma_job_duration_seconds]
    Quantile.of(@bounds, Quantile.sparse(counts), q)
  end

  # The least duration that so many of all do not exceed.
  defp true_quantile(durations_ms, q) do
    sorted = Enum.sort(durations_ms)
    Enum.at(sorted, max(ceil(q * length(sorted)) - 1, 0)) / 1000
  end

  defp normal, do: :rand.normal()
  defp uniform(low, high), do: low + (high - low) * :rand.uniform()

  @distributions [
    {"jobs of 0.79 to 1.4 s", quote(do: uniform(790, 1400))},
    {"jobs that all last 1.41 s", quote(do: 1410)},
    {"jobs that all last 1 s", quote(do: 1000)},
    {"jobs of a few milliseconds", quote(do: uniform(1, 12))},
    {"exponential ones of 3 s on average", quote(do: -3000 * :math.log(:rand.uniform()))},
    {"log-normal ones", quote(do: 5000 * :math.exp(normal()))},
    {"ones of two kinds",
     quote(do: if(:rand.uniform() < 0.6, do: uniform(15, 25), else: uniform(29_000, 31_000)))},
    {"ones with a long tail, up to hours", quote(do: min(200 / :rand.uniform(), 8.0e6))}
  ]

  for {name, duration} <- @distributions, count <- [1, 20, 5000] do
    test "the told p50, p95 and p99 of #{count} #{name} are at most 15 % wrong" do
      durations = for _ <- 1..unquote(count), do: round(unquote(duration))

      for {q, n} <- Enum.with_index([0.5, 0.95, 0.99]) do
        if n == 0, do: :ok, else: :ets.delete_all_objects(Table)
        told = told(durations, q)
        true_one = true_quantile(durations, q)
        assert_in_delta told, true_one, true_one * @wrong + 0.001, "p#{q}"
      end
    end
  end

  test "no bound of a histogram is more than 15 % above the one before, from a millisecond to two hours" do
    bounds = Definitions.seconds()
    assert hd(bounds) == 0.001 and List.last(bounds) > 7200
    for {low, high} <- Enum.zip(bounds, tl(bounds)), do: assert(high / low <= 1 + @wrong)
  end
end
