defmodule Koma.Properties.PlacementTest do
  use ExUnit.Case, async: true

  import Koma.Properties
  alias Koma.Scheduler.Placement

  test "no model node ever gets more jobs than it has slots, and none is free while a job waits" do
    holds({integer(1, 4), integer(1, 4), list(integer(1, 12))}, fn {a, b, jobs} ->
      placement =
        Placement.new()
        |> Placement.up("a", self(), "toy", a, [])
        |> Placement.up("b", self(), "toy", b, [])

      {placement, refused} =
        Enum.reduce(Enum.uniq(jobs), {placement, 0}, fn job, {placement, refused} ->
          case Placement.take(placement, "toy", "job_#{job}") do
            {:ok, _name, _pid, placement} -> {placement, refused}
            :none -> {placement, refused + 1}
          end
        end)

      Placement.running(placement) == min(length(Enum.uniq(jobs)), a + b) and
        refused == max(length(Enum.uniq(jobs)) - a - b, 0) and
        Enum.all?(placement.nodes, fn {_name, node} -> MapSet.size(node.jobs) <= node.slots end)
    end)
  end

  test "the least loaded model node is taken, by its share of free slots" do
    placement =
      Placement.new()
      |> Placement.up("small", self(), "toy", 2, ["job_1"])
      |> Placement.up("large", self(), "toy", 4, ["job_2"])
      |> Placement.up("other", self(), "amused", 9, [])

    assert {:ok, "large", _pid, _placement} = Placement.take(placement, "toy", "job_3")
  end

  test "a slot that is freed twice, or on a model node that is gone, is freed once" do
    placement = Placement.up(Placement.new(), "a", self(), "toy", 1, ["job_1"])
    placement = placement |> Placement.free("a", "job_1") |> Placement.free("a", "job_1")
    assert Placement.running(placement) == 0
    assert Placement.free(Placement.down(placement, "a"), "a", "job_1") == Placement.new()
  end
end
