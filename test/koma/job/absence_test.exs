defmodule Koma.Job.AbsenceTest do
  use Koma.CoreCase, async: false

  alias Koma.{Queue, Scheduler}

  @long %{"steps" => 10_000, "step_ms" => 20}

  setup %{dir: dir} do
    start_core(dir, models: [toy(%{slots: 2})], absence_ms: 100)
  end

  test "a running job whose submitter has gone and whom nobody follows is cancelled; its slot is free" do
    id = submit_and_go(@long)
    events = await_end_quietly(id)
    assert milestones(events) == ~w(queued started cancelled)
    assert %{"code" => "cancelled", "message" => message} = List.last(events).data
    assert message =~ "Nobody followed the job for 100 ms"
    eventually(fn -> Scheduler.running() == 0 end)
  end

  test "a waiting job whom nobody wants leaves the queue and never starts" do
    blockers = for _ <- 1..2, do: submit!(@long)["id"]
    id = submit_and_go(%{})
    assert milestones(await_end_quietly(id)) == ~w(queued cancelled)
    assert Queue.position("toy", id) == nil
    for blocker <- blockers, do: Koma.cancel(blocker, %Caller{})
  end

  test "as long as one follower is left, the job runs; when the last one has left, it is cancelled" do
    id = submit_and_go(@long)
    followers = for _ <- 1..2, do: follower(id)
    [first, second] = followers
    stop(first)
    refute_ended(id, 300)
    stop(second)
    assert %{type: "cancelled"} = List.last(await_end_quietly(id))
  end

  test "unsubscribing is leaving, and coming back within the grace period is staying" do
    id = submit_and_go(@long)
    {:ok, _job, _events, _preview} = Koma.subscribe(id, 0, %Caller{})
    Koma.unsubscribe(id)
    {:ok, _job, _events, _preview} = Koma.subscribe(id, 0, %Caller{})
    refute_ended(id, 300)
    Koma.unsubscribe(id)
    assert %{type: "cancelled"} = List.last(await_end_quietly(id))
  end

  test "the submitter alone keeps its job, without following it" do
    id = submit!(@long)["id"]
    refute_ended(id, 300)
    Koma.cancel(id, %Caller{})
  end

  for request <- [%{"on_disconnect" => "keep"}, %{"priority" => "batch"}] do
    test "a job with #{inspect(request)} goes on without anybody" do
      params = %{"steps" => 20, "step_ms" => 20}
      id = submit_and_go(params, unquote(Macro.escape(request)))
      assert %{type: "completed"} = List.last(await_end_quietly(id))
    end
  end

  test "after a restart absence counts only once somebody has come back and gone again", %{
    dir: dir
  } do
    running = submit!(@long)["id"]
    await_step(running)
    stop_core()
    start_core(dir, models: [toy(%{slots: 2})], absence_ms: 100)
    refute_ended(running, 300)
    running |> follower() |> stop()
    assert %{type: "cancelled"} = List.last(await_end_quietly(running))
  end

  test "the process of a followed job dies: who followed it still counts", %{} do
    id = submit_and_go(@long)
    follower = follower(id)
    Process.exit(Koma.Job.Processes.whereis(id), :kill)
    refute_ended(id, 300)
    stop(follower)
    assert %{type: "cancelled"} = List.last(await_end_quietly(id))
  end

  # From a process that ends at once, as a socket that is closed.
  defp submit_and_go(params, request \\ %{}) do
    Task.await(Task.async(fn -> submit!(params, request)["id"] end))
  end

  defp follower(id) do
    test = self()

    pid =
      spawn(fn ->
        {:ok, _job, _events, _preview} = Koma.subscribe(id, 0, %Caller{})
        send(test, {:follows, self()})
        receive do: (:stop -> :ok)
      end)

    assert_receive {:follows, ^pid}, 5_000
    pid
  end

  defp stop(pid) do
    ref = Process.monitor(pid)
    send(pid, :stop)
    assert_receive {:DOWN, ^ref, :process, ^pid, :normal}
  end

  # Without following it: that would be presence.
  defp await_end_quietly(id) do
    eventually(fn -> ended?(id) end)
    Koma.Store.Jobs.events(id, 0)
  end

  defp refute_ended(id, ms) do
    receive do
    after
      ms ->
        refute ended?(id),
               inspect(Koma.Store.Jobs.events(id, 0) |> Enum.reject(&(&1.type == "progress")))
    end
  end

  defp ended?(id) do
    {:ok, record} = Koma.Store.Jobs.fetch(id)
    Koma.Job.Record.ended?(record)
  end
end
