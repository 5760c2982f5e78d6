defmodule Koma.Faults.CoreDeathTest do
  use Koma.CoreCase, async: false

  # What dies, and by that what starts again; the follower sees one gapless story all the same.
  for part <- [
        Koma.Store.Disk,
        Koma.Store.Temporary,
        Koma.ModelNode.Catalogue,
        Koma.ModelNode,
        Koma.Scheduler,
        Koma.Queue,
        Koma.Job.Keeper,
        Koma.Job.Supervisor,
        Koma.Core
      ] do
    test "#{inspect(part)} dies: whoever follows a job sees it end, without a gap", %{dir: dir} do
      start_core(dir)
      id = submit!(%{"steps" => 20, "step_ms" => 20})["id"]
      {follower, early} = follow({:job, id})
      await_step(id)
      ref = Process.monitor(unquote(part))
      Process.exit(GenServer.whereis(unquote(part)), :kill)
      assert_receive {:DOWN, ^ref, :process, _, :killed}
      events = early ++ heard(follower, 20_000)
      assert Enum.map(events, & &1.seq) == Enum.to_list(1..length(events))
      assert %{type: "completed"} = List.last(events)
      assert Koma.Store.Jobs.events(id, 0) == as_stored(events)
      assert %{type: "completed"} = List.last(await_end(resubmit()))
    end
  end

  test "while the core is down the answers are unavailable, not crashes", %{dir: dir} do
    start_core(dir)
    id = submit!()["id"]
    await_end(id)
    stop_core()
    assert {:error, %{code: "unavailable"}} = Koma.submit(%{"task" => "toy.run"}, %Caller{})
    assert {:error, %{code: "unavailable"}} = Koma.job(id, %Caller{})
    assert {:error, %{code: "unavailable"}} = Koma.cancel(id, %Caller{})
    assert {:error, %{code: "unavailable"}} = Koma.subscribe(id, 0, %Caller{})
    assert Koma.unsubscribe(id) == :ok
    assert Koma.jobs(%Caller{}, %{}) == []
    assert Koma.models() == []
    assert {:error, [_ | _]} = Koma.ready()
    assert Koma.drain(10) == :ok
  end

  defp resubmit do
    eventually(fn -> match?({:ok, _}, Koma.submit(%{"task" => "toy.run"}, %Caller{})) end)
    {:ok, job} = Koma.submit(%{"task" => "toy.run"}, %Caller{})
    job["id"]
  end
end
