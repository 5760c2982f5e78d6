defmodule Koma.Dashboard.PureTest do
  use ExUnit.Case, async: true

  alias Koma.Dashboard.{Chart, Confirmation, Filter, Format, Quantile}

  doctest Chart
  doctest Filter
  doctest Format
  doctest Quantile

  test "a chart has a gap where nothing was measured, and says in words what it shows" do
    lines = [%{name: "median", points: [{900_000, 1.0}, {600_000, nil}, {0, 2.0}]}]
    {:safe, svg} = Chart.svg("Wait <b>", lines, 900_000, &Format.number/1)
    assert svg =~ ~s(d="M0.0 36.0 M320.0 1.0")
    assert svg =~ ~s(aria-label="Wait &lt;b&gt;, the last 15 minutes; now: median 2.0")
    assert {:safe, _empty} = Chart.svg("None", [%{name: "n", points: []}], 900_000, &to_string/1)
  end

  test "an address with a filter is that filter again" do
    filter = %Filter{state: "running", family: "toy & co", key: "-"}
    "/dashboard?" <> query = Filter.url(filter, "job_1")
    assert query |> URI.decode_query() |> Filter.new() == filter
    assert Filter.url(%Filter{}, nil) == "/dashboard"
  end

  test "only what a button asks is a question, and only a question is an action" do
    assert Confirmation.new(%{"do" => "format the disk", "on" => "toy-1"}) == nil
    assert Confirmation.new(%{"do" => "drain"}) == nil
    question = Confirmation.new(%{"do" => "load", "on" => "toy-1"})

    assert {:error, %{field: "checkpoint"}} =
             Confirmation.action(question, %{"checkpoint" => " "})

    assert Confirmation.action(question, %{"checkpoint" => " b "}) ==
             {:ok, {:order, "toy-1", {:load, "b"}}}
  end
end
