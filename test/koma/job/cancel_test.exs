defmodule Koma.Job.CancelTest do
  use Koma.CoreCase, async: false

  alias Koma.{Queue, Scheduler}

  setup %{dir: dir} do
    start_core(dir, models: [toy(%{slots: 1})])
  end

  test "a waiting job that is cancelled never starts" do
    running = submit!(%{"steps" => 20, "step_ms" => 20})["id"]
    waiting = submit!()["id"]
    assert Koma.cancel(waiting, %Caller{}) == :ok
    assert milestones(await_end(waiting)) == ~w(queued cancelled)
    assert Queue.position("toy", waiting) == nil
    assert %{type: "completed"} = List.last(await_end(running))
  end

  test "a running job that is cancelled frees its slot and leaves no file", %{dir: dir} do
    id = submit!(%{"steps" => 1000, "step_ms" => 20, "output_bytes" => 100_000})["id"]
    await_step(id)
    assert Koma.cancel(id, %Caller{}) == :ok
    assert %{type: "cancelled", data: %{"code" => "cancelled"}} = List.last(await_end(id))
    assert %{type: "completed"} = List.last(await_end(submit!()["id"]))
    eventually(fn -> Scheduler.running() == 0 end)
    eventually(fn -> File.ls!(Path.join(dir, "work")) == [] end)
  end

  for phase <- ~w(prepare finish) do
    test "a job that is cancelled within its long #{phase} frees its slot at once", %{dir: dir} do
      os_pid = Koma.ModelNode.os_pid("toy-1")
      fault = "slow_" <> unquote(phase)
      # A minute of work, in which the model node is busy with nothing but this job.
      long = %{"prepare" => %{"steps" => 1, "step_ms" => 60_000}, "finish" => %{"steps" => 1}}
      params = Map.put(long[unquote(phase)], "fail", fault)
      id = submit!(Map.put(params, "output_bytes", 1_000))["id"]
      await_phase(id, unquote(phase))
      behind = submit!()["id"]
      assert Koma.cancel(id, %Caller{}) == :ok
      assert %{type: "cancelled"} = List.last(await_end(id))
      assert %{type: "completed"} = List.last(await_end(behind))
      assert Koma.ModelNode.os_pid("toy-1") == os_pid
      eventually(fn -> Scheduler.running() == 0 end)
      eventually(fn -> File.ls!(Path.join(dir, "work")) == [] end)
    end
  end

  defp await_phase(id, phase) do
    eventually(fn ->
      Enum.any?(Koma.Store.Jobs.events(id, 0), &(&1.data["phase"] == phase))
    end)
  end

  test "cancelling twice, after the end, and an unknown id is harmless" do
    id = submit!()["id"]
    events = await_end(id)
    assert Koma.cancel(id, %Caller{}) == :ok
    assert Koma.cancel(id, %Caller{}) == :ok
    assert as_stored(await_end(id)) == as_stored(events)
    assert {:error, %{code: "not_found"}} = Koma.cancel("job_unknown", %Caller{})
  end

  test "a job that ended and was forgotten meanwhile is not_found, not a crash", %{dir: dir} do
    stop_core()
    start_core(dir, retention_jobs: 0)
    for _ <- 1..20, do: assert(%{"id" => _} = submit!(%{"steps" => 1}))
    ids = for _ <- 1..20, do: submit!(%{"steps" => 1})["id"]

    ids
    |> Enum.map(&Task.async(fn -> ask_until_forgotten(&1) end))
    |> Task.await_many(20_000)
  end

  test "a storm of cancels at random moments leaks no slot, place or process" do
    ids =
      for n <- 1..150 do
        id = submit!(%{"steps" => 3, "step_ms" => 1})["id"]
        if rem(n, 10) != 0, do: spawn_cancel(id)
        id
      end

    types = for id <- ids, do: List.last(await_end(id)).type
    assert Enum.all?(types, &(&1 in ~w(completed cancelled)))
    assert Enum.count(types, &(&1 == "completed")) >= 15
    eventually(fn -> Scheduler.running() == 0 end)
    eventually(fn -> Koma.Job.Processes.all() == [] end)
    assert %{type: "completed"} = List.last(await_end(submit!()["id"]))
  end

  test "one key can neither see nor cancel the job of another" do
    {:ok, job} = Koma.submit(%{"task" => "toy.run"}, %Caller{key: "a"})
    assert {:error, %{code: "not_found"}} = Koma.job(job["id"], %Caller{key: "b"})
    assert {:error, %{code: "not_found"}} = Koma.cancel(job["id"], %Caller{key: "b"})
    assert {:error, %{code: "not_found"}} = Koma.subscribe(job["id"], 0, %Caller{key: "b"})
    assert Koma.jobs(%Caller{key: "b"}, %{}) == []
    assert [%{"id" => id}] = Koma.jobs(%Caller{key: "a"}, %{})
    assert id == job["id"]
  end

  test "a job whose deadline passes expires, waiting or running" do
    # The second one is accepted long before the first one ends, also on a busy machine.
    running = submit!(%{"steps" => 1000, "step_ms" => 20}, %{"deadline_ms" => 2_000})["id"]
    waiting = submit!(%{}, %{"deadline_ms" => 200})["id"]
    assert milestones(await_end(waiting)) == ~w(queued expired)
    assert milestones(await_end(running)) == ~w(queued started expired)
    assert %{type: "completed"} = List.last(await_end(submit!()["id"]))
  end

  defp ask_until_forgotten(id) do
    with :ok <- Koma.cancel(id, %Caller{}),
         {:ok, _job} <- Koma.job(id, %Caller{}),
         {:ok, _job, _events, _preview} <- Koma.subscribe(id, 0, %Caller{}) do
      ask_until_forgotten(id)
    else
      {:error, %{code: "not_found"}} -> :ok
    end
  end

  defp spawn_cancel(id) do
    Task.start(fn ->
      receive do
      after
        :rand.uniform(40) -> Koma.cancel(id, %Caller{})
      end
    end)
  end
end
