defmodule Koma.Dashboard.Parts.Rates do
  @moduledoc """
  How much is done, and how long it takes: charts of the last 15 minutes, and per family the last five
  minutes. From the counters and histograms of `/metrics`, so that both say the same.
  """
  @behaviour Koma.Dashboard.Part

  require EEx

  alias Koma.Dashboard.{Chart, Format, History, Quantile}
  alias Koma.Metrics.Definitions

  @table_ms 5 * 60_000
  # A point of a chart tells of so long before it.
  @rate_ms 60_000
  @bounds List.to_tuple(Definitions.seconds())

  EEx.function_from_file(
    :defp,
    :rates,
    Path.join(__DIR__, "rates.html.eex"),
    [:charts, :families],
    engine: Koma.Live.HTML,
    trim: true
  )

  @impl true
  def read(nil), do: History.latest()

  @impl true
  def html(_latest) do
    samples = History.samples()
    rates(charts(samples), families(samples))
  end

  defp charts(samples) do
    steps = steps(samples)
    count = &Format.number/1
    time = &Format.duration(1000 * &1)

    [
      chart("Jobs a minute", count, [
        {"completed", per_minute(steps, &ended(&1, "completed"))},
        {"failed", per_minute(steps, &(ended(&1, "failed") + ended(&1, "expired")))}
      ]),
      chart("Jobs now", count, [
        {"running", now(samples, :running)},
        {"waiting", now(samples, :waiting)}
      ]),
      chart("Wait", time, quantiles(steps, :koma_job_queue_wait_seconds)),
      chart("Whole time", time, quantiles(steps, :koma_job_duration_seconds))
    ]
  end

  defp chart(title, show, lines) do
    lines = for {name, points} <- lines, do: %{name: name, points: points}
    Chart.svg(title, lines, History.span_ms(), show)
  end

  # Each sample with the one a minute before it: what was counted between them is a rate.
  defp steps([]), do: []

  defp steps(samples) do
    latest = List.last(samples).at
    for sample <- samples, do: {latest - sample.at, sample, before(samples, sample.at - @rate_ms)}
  end

  # The latest that is old enough, else the first there is.
  defp before([first | rest], at), do: Enum.reduce_while(rest, first, &older(&1, &2, at))

  defp older(%{at: its} = sample, _before, at) when its <= at, do: {:cont, sample}
  defp older(_sample, before, _at), do: {:halt, before}

  defp per_minute(steps, count) do
    for {age, sample, before} <- steps do
      {age, if(sample != before, do: (count.(sample) - count.(before)) / minutes(sample, before))}
    end
  end

  # Nobody knows the rate of a minute before it is over: until then it is what was counted so far.
  defp minutes(sample, before), do: max(sample.at - before.at, 60_000) / 60_000

  defp now(samples, what) do
    latest = List.last(samples).at
    for sample <- samples, do: {latest - sample.at, Map.fetch!(sample, what)}
  end

  defp quantiles(steps, metric) do
    counted = for {age, sample, before} <- steps, do: {age, counts(sample, before, metric, nil)}

    for {name, q} <- [{"median", 0.5}, {"95 %", 0.95}] do
      {name, for({age, counts} <- counted, do: {age, Quantile.of(@bounds, counts, q)})}
    end
  end

  # Of all series of a histogram, or those of a family.
  defp counts(sample, before, metric, family) do
    earlier = Map.new(Map.get(before.counters, metric, []))

    for {[its | _] = labels, {counts, _sum}} <- Map.get(sample.counters, metric, []),
        family in [nil, its],
        reduce: %{} do
      sum ->
        {before, _sum} = Map.get(earlier, labels, {%{}, 0})
        Map.merge(sum, Quantile.since(counts, before), fn _bucket, one, other -> one + other end)
    end
  end

  defp ended(sample, state, family \\ nil) do
    total(sample, :koma_jobs_ended_total, fn [its, _task, at_end, _code] ->
      at_end == state and family in [nil, its]
    end)
  end

  defp total(sample, metric, counts?) do
    for({labels, n} <- Map.get(sample.counters, metric, []), counts?.(labels), do: n)
    |> Enum.sum()
  end

  defp families([]), do: []

  defp families(samples) do
    latest = List.last(samples)
    before = before(samples, latest.at - @table_ms)

    for family <- names(latest), do: family(family, latest, before)
  end

  defp names(sample) do
    for {[family | _], _n} <- Map.get(sample.counters, :koma_jobs_accepted_total, []),
        uniq: true,
        do: family
  end

  defp family(family, latest, before) do
    rate = fn count -> (count.(latest) - count.(before)) / minutes(latest, before) end
    waits = counts(latest, before, :koma_job_queue_wait_seconds, family)
    runs = counts(latest, before, :koma_job_duration_seconds, family)

    %{
      family: family,
      accepted: rate.(&total(&1, :koma_jobs_accepted_total, fn [its | _] -> its == family end)),
      completed: rate.(&ended(&1, "completed", family)),
      failed: rate.(&(ended(&1, "failed", family) + ended(&1, "expired", family))),
      refused: rate.(&total(&1, :koma_jobs_refused_total, fn [its | _] -> its == family end)),
      wait: for(q <- [0.5, 0.95, 0.99], do: Quantile.of(@bounds, waits, q)),
      took: for(q <- [0.5, 0.95, 0.99], do: Quantile.of(@bounds, runs, q))
    }
  end

  defp times(seconds), do: Enum.map_join(seconds, " · ", &time/1)

  defp time(nil), do: "–"
  defp time(seconds), do: Format.duration(1000 * seconds)
end
