defmodule Koma.Pipeline.RecordTest do
  use ExUnit.Case, async: true

  alias Koma.Pipeline.{Graph, Record}

  setup do
    stages = [
      %{"name" => "a", "task" => "toy.run"},
      %{"name" => "b", "task" => "toy.run", "inputs" => %{"file" => %{"from" => "a.result"}}}
    ]

    {:ok, graph} = Graph.new(%{"stages" => stages}, nil)
    {:ok, record: Record.new("pl_1", nil, graph)}
  end

  defp tell(record, type, data), do: Record.apply(record, Record.event(record, type, data))

  defp stage(record, name, event, payload \\ %{}) do
    data = %{"stage" => name, "event" => event, "job" => "job_" <> name, "payload" => payload}
    tell(record, "stage", data)
  end

  test "events lead from waiting to completed, with the outputs of the stages", %{record: record} do
    output = %{"name" => "result", "artifact" => "x"}
    record = stage(record, "a", "started", %{"seq" => 2})
    assert Record.states(record) == %{"a" => "running", "b" => "waiting"}
    assert record.stages["a"].job_seq == 2

    record = stage(record, "a", "completed", %{"seq" => 3, "outputs" => [output]})
    assert record.outputs == %{"a.result" => output}
    refute Record.ended?(record)

    record = record |> stage("b", "completed", %{"outputs" => []}) |> tell("completed", %{})
    assert Record.ended?(record)

    assert %{"state" => "completed", "seq" => 4, "outputs" => %{"a.result" => _}} =
             Record.to_map(record)
  end

  test "an error of a stage and of the pipeline is told without its envelope", %{record: record} do
    payload = %{"seq" => 4, "id" => "job_a", "at" => 1, "code" => "expired", "message" => "late"}
    record = stage(record, "a", "expired", payload)
    map = Record.to_map(tell(record, "failed", %{"code" => "expired", "stage" => "a"}))
    assert %{"state" => "failed", "error" => %{"stage" => "a"}} = map

    assert [%{"state" => "failed", "error" => error}, %{"state" => "waiting"}] = map["stages"]
    assert error == %{"code" => "expired", "message" => "late"}
  end

  test "a cancelled pipeline has no stage that goes on", %{record: record} do
    record = record |> stage("a", "progress") |> tell("cancelled", %{"code" => "cancelled"})
    assert Record.states(record) == %{"a" => "cancelled", "b" => "cancelled"}
  end

  test "an event whose number leaves one out raises", %{record: record} do
    event = Record.event(record, "completed", %{})
    assert_raise FunctionClauseError, fn -> Record.apply(record, %{event | seq: 2}) end
  end
end
