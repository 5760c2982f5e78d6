defmodule Koma.Faults.ModelNodeDeathTest do
  use Koma.CoreCase, async: false

  alias Koma.{ModelNode, Store}

  describe "SIGKILL" do
    test "a job whose model node is killed is answered once, with the same result", %{dir: dir} do
      start_core(dir)
      undisturbed = await_end(submit!(%{"steps" => 20, "seed" => 7})["id"])

      job = submit!(%{"steps" => 20, "step_ms" => 25, "seed" => 7})
      {:ok, _job, _events, _preview} = Koma.subscribe(job["id"], 0, %Caller{})
      await_step(job["id"])
      System.cmd("kill", ["-KILL", "#{ModelNode.os_pid("toy-1")}"])
      await_event(job["id"], "completed")
      events = await_end(job["id"])

      assert milestones(events) == ~w(queued started retrying queued started completed)
      assert Enum.map(events, & &1.seq) == Enum.to_list(1..length(events))
      assert digest(events) == digest(undisturbed)
      assert %{type: "completed", data: %{"attempt" => 2}} = List.last(events)
      assert %{"code" => "node_crashed", "attempt" => 1} = find(events, "retrying").data
      refute_receive {:koma_events, _, _}, 100
    end

    test "every job of the killed model node is answered, the waiting ones too", %{dir: dir} do
      start_core(dir)
      ids = for seed <- 1..8, do: submit!(%{"steps" => 10, "step_ms" => 10, "seed" => seed})["id"]
      await_step(hd(ids))
      System.cmd("kill", ["-KILL", "#{ModelNode.os_pid("toy-1")}"])
      ends = for id <- ids, do: id |> await_end() |> List.last()
      assert Enum.map(ends, & &1.type) == List.duplicate("completed", 8)
      assert File.ls!(Path.join(dir, "work")) == []
    end

    test "the other model nodes do not notice", %{dir: dir} do
      start_core(dir, models: [toy(%{count: 2})])
      other = ModelNode.os_pid("toy-2")
      System.cmd("kill", ["-KILL", "#{ModelNode.os_pid("toy-1")}"])
      eventually(fn -> Koma.ready() != :ok end)
      await_ready()
      assert ModelNode.os_pid("toy-2") == other
    end

    test "a job that may run once only fails as node_crashed with its model node", %{dir: dir} do
      start_core(dir, max_attempts: 1)
      events = await_end(submit!(%{"steps" => 3, "fail" => "crash"})["id"])
      assert milestones(events) == ~w(queued started failed)
      assert %{"code" => "node_crashed", "message" => message} = List.last(events).data
      assert message =~ ~r/exit status 137|its pipe closed/
      await_ready()
      assert digest(await_end(submit!()["id"]))
    end

    test "processes that the model node forked die with it", %{dir: dir} do
      file = Path.join(dir, "child")
      start_core(dir, node_command: scripted("forks", [file]))
      eventually(fn -> File.exists?(file) and File.read!(file) != "" end)
      child = file |> File.read!() |> String.to_integer()
      assert alive?(child)
      stop_core()
      eventually(fn -> not alive?(child) end)
    end
  end

  describe "hanging" do
    test "a model node whose step never ends is killed, its job told why", %{dir: dir} do
      start_core(dir, hang_timeout_ms: 400, max_attempts: 1)
      os_pid = ModelNode.os_pid("toy-1")
      events = await_end(submit!(%{"steps" => 3, "fail" => "hang"})["id"])
      assert %{"code" => "node_hung", "message" => message} = List.last(events).data
      assert message =~ "more than 400"
      refute alive?(os_pid)
    end

    test "an entry says for how long an operation may give no sign of life", %{dir: dir} do
      start_core(dir, models: [toy(%{hang_timeout_ms: 400})], max_attempts: 1)
      events = await_end(submit!(%{"steps" => 3, "fail" => "hang"})["id"])
      assert %{"code" => "node_hung", "message" => message} = List.last(events).data
      assert message =~ "more than 400"
    end

    test "an operation that gives signs of life is no hang, however long it takes", %{dir: dir} do
      start_core(dir, hang_timeout_ms: 1_500, ping_interval_ms: 50, max_attempts: 1)
      os_pid = ModelNode.os_pid("toy-1")

      # Three seconds of preparation; the steps, which give no sign within, take far less each.
      job = submit!(%{"steps" => 20, "step_ms" => 150, "fail" => "slow_prepare"})
      assert %{type: "completed"} = List.last(await_end(job["id"]))
      assert ModelNode.os_pid("toy-1") == os_pid
    end

    test "a model node that answers no ping is killed, and its job runs again", %{dir: dir} do
      start_core(dir, ping_timeout_ms: 1_000)
      job = submit!(%{"steps" => 3, "fail" => "hang_gil", "fail_attempts" => 1, "seed" => 1})
      events = await_end(job["id"])
      assert milestones(events) == ~w(queued started retrying queued started completed)
      assert find(events, "retrying").data["code"] == "node_hung"
      assert digest(events) == digest(await_end(submit!(%{"steps" => 3, "seed" => 1})["id"]))
    end

    test "a model node that does not read for a while blocks nobody and loses nothing", %{
      dir: dir
    } do
      start_core(dir, node_command: scripted("slow_reader"))
      # Far more than the pipe holds.
      ids = for _ <- 1..2, do: submit!(%{"prompt" => String.duplicate("x", 900_000)})["id"]
      asked = System.monotonic_time(:millisecond)
      assert is_integer(ModelNode.os_pid("toy-1"))
      assert System.monotonic_time(:millisecond) - asked < 2_000
      for id <- ids, do: assert(milestones(await_end(id)) == ~w(queued started completed))
    end

    test "a model node that reads nothing any more is killed", %{dir: dir} do
      start_core(dir, node_command: scripted("deaf"), ping_timeout_ms: 300, wait: false)
      eventually(fn -> Enum.any?(Koma.ModelNode.Catalogue.rows(), &(&1.failures > 0)) end)
    end
  end

  describe "faults of one job" do
    test "a model that raises in any phase fails that job alone", %{dir: dir} do
      start_core(dir, models: [toy(%{slots: 8})])
      os_pid = ModelNode.os_pid("toy-1")
      good = submit!(%{"steps" => 10, "step_ms" => 20})

      for phase <- ~w(prepare step finish) do
        events = await_end(submit!(%{"steps" => 3, "step_ms" => 20, "fail" => phase})["id"])
        assert %{type: "failed", data: %{"code" => "model_failed"}} = List.last(events)
      end

      assert digest(await_end(good["id"]))
      assert ModelNode.os_pid("toy-1") == os_pid
    end

    test "a library that prints harms nothing", %{dir: dir} do
      start_core(dir)
      events = await_end(submit!(%{"steps" => 3, "fail" => "print", "seed" => 3})["id"])
      assert milestones(events) == ~w(queued started completed)
    end

    test "a library that prints without end delays nothing", %{dir: dir} do
      start_core(dir, node_command: scripted("chatty"), ping_timeout_ms: 2_000)
      assert %{type: "completed"} = submit!()["id"] |> await_end() |> List.last()
    end
  end

  test "the death of a model node's process in the gateway loses no job", %{dir: dir} do
    start_core(dir)
    os_pid = ModelNode.os_pid("toy-1")
    job = submit!(%{"steps" => 20, "step_ms" => 20})
    await_step(job["id"])
    Process.exit(ModelNode.whereis("toy-1"), :kill)
    assert %{type: "completed", data: %{"attempt" => 2}} = List.last(await_end(job["id"]))
    eventually(fn -> not alive?(os_pid) end)
  end

  test "the death of a job's process in the gateway loses no job and leaks no slot", %{dir: dir} do
    start_core(dir)
    job = submit!(%{"steps" => 20, "step_ms" => 20})
    await_step(job["id"])
    Process.exit(Koma.Job.Processes.whereis(job["id"]), :kill)
    eventually(fn -> match?({:ok, %{"attempt" => 2}}, Koma.job(job["id"], %Caller{})) end)
    assert %{type: "completed"} = List.last(await_end(job["id"]))
    eventually(fn -> Koma.Scheduler.running() == 0 end)
  end

  test "the death of a job's process at any moment, the first one too, loses no job", %{dir: dir} do
    start_core(dir, models: [toy(%{slots: 4})])

    ids =
      for _ <- 1..30 do
        id = submit!(%{"steps" => 5, "step_ms" => 5})["id"]
        spawn(fn -> kill_process_soon(id) end)
        id
      end

    for id <- ids do
      events = await_end(id)
      assert %{type: "completed"} = List.last(events)
      attempts = for %{type: "started", data: %{"attempt" => n}} <- events, do: n
      assert attempts == Enum.uniq(Enum.sort(attempts))
    end

    eventually(fn -> Koma.Scheduler.running() == 0 end)
    eventually(fn -> File.ls!(Path.join(dir, "work")) == [] end)
  end

  defp kill_process_soon(id) do
    receive do
    after
      :rand.uniform(20) - 1 -> :ok
    end

    with pid when is_pid(pid) <- Koma.Job.Processes.whereis(id), do: Process.exit(pid, :kill)
  end

  test "the death of the scheduler or a queue loses no job", %{dir: dir} do
    start_core(dir)
    ids = for _ <- 1..6, do: submit!(%{"steps" => 10, "step_ms" => 20})["id"]
    await_step(hd(ids))
    ref = Process.monitor(Koma.Scheduler)
    Process.exit(GenServer.whereis(Koma.Scheduler), :kill)
    assert_receive {:DOWN, ^ref, :process, _, :killed}
    eventually(fn -> Enum.all?(ids, &ended?/1) end)
    for id <- ids, do: assert({:ok, %{state: "completed"}} = Store.Jobs.fetch(id))
  end

  defp ended?(id) do
    {:ok, record} = Store.Jobs.fetch(id)
    Koma.Job.Record.ended?(record)
  end

  defp find(events, type), do: Enum.find(events, &(&1.type == type))
end
