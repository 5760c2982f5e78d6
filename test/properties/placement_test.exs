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

  test "a job that has the peer to itself is beside no other, of whatever family, and gets it in the end" do
    operation =
      one_of([
        {:take, integer(1, 9)},
        {:take_image, integer(1, 9)},
        {:free, integer(1, 9)},
        {:take_alone, integer(1, 9)},
        {:take_apart, integer(1, 9)},
        {:down, integer(1, 2)}
      ])

    holds(list(operation), fn operations ->
      start = Placement.up(two_nodes(), "b1", self(), "amused", 4, [])
      placement = Enum.reduce(operations, start, &operate/2)

      emptied =
        for {name, node} <- placement.nodes, id <- node.jobs, reduce: placement do
          placement -> Placement.free(placement, name, id)
        end

      emptied = Placement.unreserve(emptied, "toy")

      apart?(placement) and
        match?({:ok, _, _, _}, Placement.take_apart(emptied, "toy", "job_last"))
    end)
  end

  test "while a job waits for the peer nobody gets a slot of it; let go, everybody does" do
    placement =
      Placement.new()
      |> Placement.up("a", self(), "toy", 2, [])
      |> Placement.up("b", self(), "amused", 2, ["job_1"])

    assert {:none, placement} = Placement.take_apart(placement, "toy", "job_2")
    assert Placement.take(placement, "toy", "job_3") == :none
    assert Placement.host(placement, "a", "job_3", :shared) == :refused
    refute Placement.told(placement, "b").open
    let_go = Placement.unreserve(placement, "toy")
    assert {:ok, "a", _node, _} = Placement.take(let_go, "toy", "job_3")

    placement = Placement.free(placement, "b", "job_1")
    assert {:ok, "a", _node, placement} = Placement.take_apart(placement, "toy", "job_2")
    assert Placement.take(placement, "amused", "job_3") == :none
    assert Placement.unreserve(placement, "toy") == placement

    for gone <- [Placement.free(placement, "a", "job_2"), Placement.down(placement, "a")] do
      assert {:ok, "b", _node, _} = Placement.take(gone, "amused", "job_3")
    end
  end

  test "a guest that needs the peer to itself waits until all of it is empty" do
    placement =
      Placement.new()
      |> Placement.up("a", self(), "toy", 2, [])
      |> Placement.up("b", self(), "amused", 2, ["job_1"])

    assert {:wait, placement} = Placement.host(placement, "a", "guest", :apart)
    assert Placement.host(placement, "a", "another", :apart) == :refused
    placement = Placement.free(placement, "b", "job_1")
    assert {:ok, "a", _node, placement} = Placement.host(placement, "a", "guest", :apart)
    assert Placement.unreserve_for(placement, "a", "guest") == placement
    placement = Placement.free(placement, "a", "guest")
    assert {:ok, "b", _node, _} = Placement.take(placement, "amused", "job_2")
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

  describe "of several peers," do
    test "this one is taken on a tie, else the one with the larger share of free slots" do
      placement =
        Placement.new() |> Placement.up("z", self(), "toy", 2, []) |> offered("a@b", 2, [])

      assert {:ok, "z", %{peer: nil}, placement} = Placement.take(placement, "toy", "job_1")
      assert {:ok, "a@b", %{peer: :b}, placement} = Placement.take(placement, "toy", "job_2")
      assert {:ok, "z", _node, placement} = Placement.take(placement, "toy", "job_3")
      assert {:ok, "a@b", _node, placement} = Placement.take(placement, "toy", "job_4")
      assert Placement.take(placement, "toy", "job_5") == :none
    end

    test "what a peer tells never frees a slot that was taken here since, nor counts one twice" do
      operation =
        one_of([
          {:take, integer(1, 9)},
          {:told, list(integer(1, 12))},
          {:free, integer(1, 9)}
        ])

      holds(list(operation), fn operations ->
        {placement, taken} =
          Enum.reduce(operations, {offered(Placement.new(), "a@b", 4, []), MapSet.new()}, &tell/2)

        node = placement.nodes["a@b"]

        MapSet.equal?(node.jobs, taken) and MapSet.disjoint?(node.jobs, node.others) and
          Placement.running(placement) == MapSet.size(taken)
      end)
    end

    test "two candidates are drawn, whatever the chance, and the better of them is taken" do
      holds({integer(0, 999), integer(3, 9)}, fn {chance, count} ->
        # n has n - 1 of its slots free.
        placement =
          for n <- 1..count, reduce: Placement.new() do
            placement -> offered(placement, "n#{n}@p#{n}", n, ["other_#{n}"])
          end

        {:ok, name, node, _placement} = Placement.take(placement, "toy", "job", chance / 1000)
        # The worst has no free slot, and the second worst only wins over that one, which is none.
        node.slots >= 2 and (count < 4 or name != "n2@p2" or node.slots == 2)
      end)

      draws =
        for chance <- 0..99 do
          placement =
            for n <- 1..5, reduce: Placement.new(), do: (p -> offered(p, "n@p#{n}", 4, []))

          {:ok, name, _node, _placement} = Placement.take(placement, "toy", "job", chance / 100)
          name
        end

      # All schedulers at once do not meet on the same one.
      assert length(Enum.uniq(draws)) >= 4
    end

    test "a model node that takes nobody, or that still holds the job, is no candidate" do
      placement = offered(Placement.new(), "a@b", 2, ["job_1"])
      assert Placement.take(placement, "toy", "job_1") == :none

      assert Placement.take(offered(placement, "a@b", 2, [], open: false), "toy", "job_2") ==
               :none
    end

    test "a guest gets a slot of the model node that it was placed on, or is refused" do
      placement = Placement.up(Placement.new(), "a", self(), "toy", 2, ["job_1"])
      assert Placement.host(placement, "a", "job_1", :shared) == :refused
      assert Placement.host(placement, "b", "job_2", :shared) == :refused
      assert {:ok, "a", _node, placement} = Placement.host(placement, "a", "job_2", :shared)
      assert Placement.host(placement, "a", "job_3", :shared) == :refused
      assert {:wait, placement} = Placement.host(placement, "a", "job_4", :alone)
      refute Placement.told(placement, "a").open
      placement = placement |> Placement.free("a", "job_1") |> Placement.free("a", "job_2")
      assert Placement.take(placement, "toy", "job_5") == :none
      assert {:ok, "a", _node, placement} = Placement.host(placement, "a", "job_4", :alone)
      placement = Placement.free(placement, "a", "job_4")
      assert {:ok, "a", _node, _placement} = Placement.take(placement, "toy", "job_5")
    end

    test "a job that must run alone goes to a peer at once, where it waits until all others are done" do
      placement = offered(Placement.new(), "a@b", 2, ["other"])
      assert {:ok, "a@b", _node, placement} = Placement.take_alone(placement, "toy", "job_1")
      assert Placement.take(placement, "toy", "job_2") == :none
      placement = placement |> Placement.free("a@b", "job_1") |> offered("a@b", 2, [])
      assert {:ok, "a@b", _node, _placement} = Placement.take(placement, "toy", "job_2")
    end
  end

  defp offered(placement, name, slots, jobs, options \\ []) do
    [_name, peer] = String.split(name, "@")
    told = %{family: "toy", slots: slots, jobs: jobs, wait_ms: 0, hold_ms: 0, open: true}
    peer = String.to_atom(peer)
    Placement.offered(placement, name, peer, {Host, peer}, Map.merge(told, Map.new(options)))
  end

  defp tell({:take, n}, {placement, taken}) do
    case Placement.take(placement, "toy", "job_#{n}") do
      {:ok, "a@b", _node, placement} -> {placement, MapSet.put(taken, "job_#{n}")}
      :none -> {placement, taken}
    end
  end

  defp tell({:told, jobs}, {placement, taken}) do
    {offered(placement, "a@b", 4, Enum.map(jobs, &"job_#{&1}")), taken}
  end

  defp tell({:free, n}, {placement, taken}) do
    {Placement.free(placement, "a@b", "job_#{n}"), MapSet.delete(taken, "job_#{n}")}
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

  defp operate({:take_apart, n}, placement) do
    if running?(placement, n) do
      placement
    else
      case placement |> Placement.unreserve("toy") |> Placement.take_apart("toy", "job_#{n}") do
        {:ok, _name, _node, placement} -> placement
        {:none, placement} -> placement
      end
    end
  end

  defp operate({:take_image, n}, placement) do
    if running?(placement, n) do
      placement
    else
      case Placement.take(placement, "amused", "job_#{n}") do
        {:ok, _name, _node, placement} -> placement
        :none -> placement
      end
    end
  end

  defp operate({:free, n}, placement) do
    Enum.reduce(Map.keys(placement.nodes), placement, &Placement.free(&2, &1, "job_#{n}"))
  end

  defp operate({:down, n}, placement) do
    placement |> Placement.down("a#{n}") |> Placement.up("a#{n}", self(), "toy", n + 1, [])
  end

  defp running?(placement, n) do
    Enum.any?(placement.nodes, fn {_name, node} -> "job_#{n}" in node.jobs end)
  end

  defp apart?(placement) do
    jobs = Enum.flat_map(placement.nodes, fn {_name, node} -> MapSet.to_list(node.jobs) end)

    case placement.apart do
      %{nil => {id, _family}} -> id not in jobs or jobs == [id]
      _nobody -> true
    end
  end

  defp lonely?(%{alone: id, jobs: jobs, slots: slots}) do
    MapSet.size(jobs) <= slots and (id == nil or id not in jobs or MapSet.size(jobs) == 1)
  end
end
