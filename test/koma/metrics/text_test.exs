defmodule Koma.Metrics.TextTest do
  use ExUnit.Case, async: true

  alias Koma.Metrics.Definitions.Definition
  alias Koma.Metrics.{Table, Text}

  test "a counter: help, type, one line for each set of labels" do
    definition = %Definition{name: :a_total, type: :counter, labels: [:x, :y], help: "Some."}

    assert text(definition, [{["1", "2"], 3}, {["1", ""], 4}]) == """
           # HELP a_total Some.
           # TYPE a_total counter
           a_total{x="1",y="2"} 3
           a_total{x="1",y=""} 4
           """
  end

  test "a counter without labels is 0 before it was counted" do
    definition = %Definition{name: :a_total, type: :counter, labels: [], help: "Some."}
    assert text(definition, []) =~ "\na_total 0\n"
  end

  test "backslashes, quotes and line ends of a label cannot end it" do
    definition = %Definition{name: :a, type: :gauge, labels: [:x], help: "One\nline \\"}
    text = text(definition, [{["\"\\\n"], 0.01}])
    assert text =~ ~S(# HELP a One\nline \\) <> "\n"
    assert text =~ ~S(a{x="\"\\\n"} 0.01) <> "\n"
  end

  test "the buckets of a histogram are cumulative; a value on a bound belongs below it" do
    definition =
      Koma.Metrics.Definitions.all() |> Enum.find(&(&1.name == :koma_job_queue_wait_seconds))

    :ok = Table.create()
    for ms <- [0, 10, 11, 1_000, 9_999_999], do: Table.observe_ms(definition.name, ["toy"], ms)
    text = text(definition, Table.read()[definition.name])

    for {bound, count} <- [{"0.01", 2}, {"0.0125", 3}, {"1", 4}, {"8000", 4}, {"+Inf", 5}] do
      assert text =~ ~s(koma_job_queue_wait_seconds_bucket{family="toy",le="#{bound}"} #{count}\n)
    end

    assert text =~ ~s(koma_job_queue_wait_seconds_sum{family="toy"} 10001.02\n)
    assert text =~ ~s(koma_job_queue_wait_seconds_count{family="toy"} 5\n)
  end

  defp text(definition, values), do: IO.iodata_to_binary(Text.family(definition, values))
end
