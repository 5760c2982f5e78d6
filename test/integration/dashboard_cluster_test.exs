defmodule Koma.DashboardClusterTest do
  use Koma.ClusterCase, async: false

  alias Koma.Dashboard.Parts.{Nodes, Queues, Status}

  @moduletag timeout: 180_000
  @long %{"steps" => 10_000, "step_ms" => 20}

  test "the dashboard shows the numbers of other peers, and is not held up by one that hangs or dies",
       context do
    names = names(context, ~w(g w))
    [here, worker] = for n <- [0, 1], do: start_peer(context, names, n, slots(1))
    await_cluster([here, worker], 2)
    name = Enum.at(names, 1)

    # Its queue is empty at first, for a job goes to whatever peer has a free slot.
    for _ <- 1..2, do: submit!(worker, @long)
    eventually(fn -> running(here) == ["1 / 1", "1 / 1"] end)
    for _ <- 1..3, do: submit!(worker, @long)
    eventually(fn -> status(here) == %{running: 2, slots: 2, waiting: 3} end)

    assert %{jobs: 3, keys: [{nil, 3}], name: queue} = queue(here, "toy@#{name}")
    assert %{jobs: 0} = queue(here, "toy")

    assert %{running: 1, batch: 1, memory: memory, restarts: 0} =
             node_named(here, "toy-1@#{name}")

    assert memory > 1024 * 1024
    assert %{state: :well, told: "5 jobs of its own, 3 of them waiting"} = peer(here, name)

    # The button of its row.
    assert act(here, {:pause, queue}) == :ok
    eventually(fn -> match?(%{paused: true}, queue(here, queue)) end)
    refute queue(here, "toy").paused
    assert act(here, {:resume, queue}) == :ok
    assert {:error, %{code: "not_found"}} = act(here, {:pause, "none@#{name}"})

    # It hangs: its numbers grow old until the peers lose each other, and nobody waits for it.
    signal(worker, "STOP")
    eventually(fn -> match?(%{state: {:silent, _seconds}}, peer(here, name)) end)
    assert %{running: 1} = node_named(here, "toy-1@#{name}")
    eventually(fn -> match?(%{state: :away, told: nil}, peer(here, name)) end)
    assert [%{name: "toy-1"}] = read(here, Nodes).nodes
    signal(worker, "CONT")
    eventually(fn -> match?(%{state: :well}, peer(here, name)) end)

    kill(worker)
    eventually(fn -> match?(%{state: :away}, peer(here, name)) end)
    assert call(here, Nodes, :html, [read(here, Nodes)]) |> elem(1) =~ "not connected"
  end

  defp slots(n), do: [models: [Koma.CoreCase.toy(%{slots: n})]]

  # As the sampler reads it, which shows nothing else meanwhile: much faster than a question is given up.
  defp read(peer, part) do
    {us, read} = call(peer, :timer, :tc, [part, :read, [nil]])
    assert us < 2_000_000
    read
  end

  defp running(peer),
    do: for(node <- read(peer, Nodes).nodes, do: "#{node.running} / #{node.slots}")

  defp status(peer), do: peer |> read(Status) |> Map.take([:running, :slots, :waiting])
  defp queue(peer, name), do: Enum.find(read(peer, Queues), &(&1.name == name))
  defp node_named(peer, name), do: Enum.find(read(peer, Nodes).nodes, &(&1.name == name))

  defp peer(peer, name) do
    Enum.find(read(peer, Nodes).peers, &(&1.name == Atom.to_string(name)))
  end

  defp act(peer, action), do: call(peer, Koma.Admin, :act, [action, %Caller{}])
  defp signal(peer, name), do: {_, 0} = System.cmd("kill", ["-#{name}", "#{peer.os_pid}"])
end
