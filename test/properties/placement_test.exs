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
            {:ok, _name, _node, placement} -> {placement, refused}
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

  test "a job that runs alone is never beside another, and always gets a model node in the end" do
    operation =
      one_of([
        {:take, integer(1, 9)},
        {:free, integer(1, 9)},
        {:take_alone, integer(1, 9)},
        {:down, integer(1, 2)}
      ])

    holds(list(operation), fn operations ->
      placement = Enum.reduce(operations, two_nodes(), &operate/2)
      lonely? = Enum.all?(placement.nodes, fn {_name, node} -> lonely?(node) end)

      # All others end: the job that asks last runs.
      emptied =
        for {name, node} <- placement.nodes, id <- node.jobs, reduce: placement do
          placement -> Placement.free(placement, name, id)
        end

      lonely? and match?({:ok, _, _, _}, Placement.take_alone(emptied, "toy", "job_last"))
    end)
  end

  test "a job is not given to a model node that still holds an earlier attempt of it" do
    placement = Placement.up(Placement.new(), "a", self(), "toy", 2, ["job_1"])
    assert Placement.take(placement, "toy", "job_1") == :none
    placement = Placement.up(placement, "b", self(), "toy", 2, ["job_2", "job_3"])
    assert Placement.take(placement, "toy", "job_1") == :none
    assert {:ok, "a", _pid, _} = Placement.take(placement, "toy", "job_4")
  end

  test "a reserved model node takes nobody else; unreserved it does" do
    placement = Placement.up(Placement.new(), "a", self(), "toy", 2, ["job_1"])
    {:none, placement} = Placement.take_alone(placement, "toy", "job_2")
    assert Placement.take(placement, "toy", "job_3") == :none

    assert {:ok, "a", _pid, _} =
             placement |> Placement.unreserve("toy") |> Placement.take("toy", "job_3")

    placement = Placement.free(placement, "a", "job_1")
    assert {:ok, "a", _pid, placement} = Placement.take_alone(placement, "toy", "job_2")
    # It runs: that is no reservation any more.
    assert Placement.unreserve(placement, "toy") == placement
    assert Placement.take(placement, "toy", "job_3") == :none
    placement = Placement.free(placement, "a", "job_2")
    assert {:ok, "a", _pid, _} = Placement.take(placement, "toy", "job_3")
  end

  defp two_nodes do
    Placement.new()
    |> Placement.up("a1", self(), "toy", 2, [])
    |> Placement.up("a2", self(), "toy", 3, [])
  end

  # A job holds one slot at a time, and the queue asks for one lonely job at a time.
  defp operate({:take, n}, placement) do
    if running?(placement, n) do
      placement
    else
      case Placement.take(placement, "toy", "job_#{n}") do
        {:ok, _name, _node, placement} -> placement
        :none -> placement
      end
    end
  end

  defp operate({:take_alone, n}, placement) do
    if running?(placement, n) do
      placement
    else
      case placement |> Placement.unreserve("toy") |> Placement.take_alone("toy", "job_#{n}") do
        {:ok, _name, _node, placement} -> placement
        {:none, placement} -> placement
      end
    end
  end

  defp operate({:free, n}, placement) do
    Enum.reduce(~w(a1 a2), placement, &Placement.free(&2, &1, "job_#{n}"))
  end

  defp operate({:down, n}, placement) do
    placement |> Placement.down("a#{n}") |> Placement.up("a#{n}", self(), "toy", n + 1, [])
  end

  defp running?(placement, n) do
    Enum.any?(placement.nodes, fn {_name, node} -> "job_#{n}" in node.jobs end)
  end

  defp lonely?(%{alone: id, jobs: jobs, slots: slots}) do
    MapSet.size(jobs) <= slots and (id == nil or id not in jobs or MapSet.size(jobs) == 1)
  end
end
