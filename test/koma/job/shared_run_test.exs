defmodule Koma.Job.SharedRunTest do
  use Koma.CoreCase, async: false

  alias Koma.Job.Processes
  alias Koma.{ModelNode, Queue, Scheduler}
  alias Koma.Store.Jobs

  @long %{"steps" => 60, "step_ms" => 20, "seed" => 7, "tokens" => true, "preview_bytes" => 100}

  setup %{dir: dir} = context do
    start_core(dir, [share_results: true] ++ Map.get(context, :options, []))
  end

  test "equal requests share one run; each has its own id, gapless events and the same result" do
    ids = for _ <- 1..5, do: submit!(@long)["id"]
    assert length(Enum.uniq(ids)) == 5
    assert one_process?(ids)
    eventually(fn -> Scheduler.running() == 1 end)
    all = for id <- ids, do: await_end(id)
    for events <- all, do: assert(gapless?(events))
    assert [_one] = all |> Enum.map(&digest/1) |> Enum.uniq()
    assert [_one] = all |> Enum.map(&tokens/1) |> Enum.uniq()
    for events <- all, do: assert(milestones(events) == ~w(queued started completed))
    for id <- ids, do: refute(Map.has_key?(job(id), "cached"))
  end

  test "who joins late is told what matters: place, start, every token, the last step and preview" do
    first = submit!(@long)["id"]
    await_step(first)
    eventually(fn -> length(tokens(Jobs.events(first, 0))) > 5 end)
    late = submit!(@long)["id"]
    {:ok, job, events, preview} = Koma.subscribe(late, 0, %Caller{})
    assert %{"state" => "running", "attempt" => 1} = job
    assert ["queued", "started", "token" | _] = Enum.map(events, & &1.type)
    assert Enum.count(events, &(&1.type == "progress")) <= 2
    assert preview.media_type == "application/octet-stream"
    assert_receive {:koma_preview, ^late, _preview}, 5_000
    events = await_end(late)
    assert gapless?(events)
    assert tokens(events) == tokens(await_end(first))
  end

  test "the one that began is cancelled: it ends, the others go on" do
    [first | others] = ids = for _ <- 1..3, do: submit!(@long)["id"]
    await_step(first)
    assert Koma.cancel(first, %Caller{}) == :ok
    assert %{"state" => "cancelled"} = job(first)
    assert Koma.cancel(first, %Caller{}) == :ok
    for id <- others, do: assert(%{type: "completed"} = List.last(await_end(id)))
    assert milestones(await_end(first)) == ~w(queued started cancelled)
    assert Enum.map(ids, &job(&1)["attempt"]) == [1, 1, 1]
    eventually(fn -> Processes.all() == [] and Scheduler.running() == 0 end)
  end

  test "the run ends when the last one leaves, waiting or running" do
    long = %{@long | "steps" => 5_000}
    blockers = for n <- 1..2, do: submit!(%{"steps" => 5_000, "step_ms" => 20, "seed" => n})["id"]
    waiting = for _ <- 1..3, do: submit!(long)["id"]
    assert Queue.position("toy", hd(waiting)) == 1
    for id <- waiting, do: :ok = Koma.cancel(id, %Caller{})
    assert Queue.position("toy", hd(waiting)) == nil
    for id <- waiting, do: assert(milestones(await_end(id)) == ~w(queued cancelled))
    for id <- blockers, do: Koma.cancel(id, %Caller{})

    running = for _ <- 1..3, do: submit!(long)["id"]
    await_step(hd(running))
    for id <- tl(running), do: :ok = Koma.cancel(id, %Caller{})
    assert Scheduler.running() == 1
    Koma.cancel(hd(running), %Caller{})
    eventually(fn -> Scheduler.running() == 0 and Processes.all() == [] end)
  end

  test "a cancelled beginner keeps its run's place in the queue for the others" do
    blockers = for n <- 1..2, do: submit!(%{"steps" => 5_000, "step_ms" => 20, "seed" => n})["id"]
    [first, second] = for _ <- 1..2, do: submit!(@long)["id"]
    assert %{"position" => 1} = job(second)
    Koma.cancel(first, %Caller{})
    assert %{"position" => 1} = job(second)
    for id <- blockers, do: Koma.cancel(id, %Caller{})
    assert %{type: "completed"} = List.last(await_end(second))
  end

  test "a joined job has its own deadline" do
    first = submit!(@long)["id"]
    second = submit!(@long, %{"deadline_ms" => 300})["id"]
    assert %{type: "expired"} = List.last(await_end(second))
    assert %{type: "completed"} = List.last(await_end(first))
  end

  @tag options: [absence_ms: 100]
  test "a joined job that nobody wants any more leaves; the others go on" do
    gone = Task.await(Task.async(fn -> submit!(@long)["id"] end))
    stays = submit!(@long)["id"]
    assert %{type: "completed"} = List.last(await_end(stays))
    assert %{"state" => "cancelled"} = job(gone)
  end

  test "when the model node dies, all are told, the run is run again, and all get its result" do
    ids = for _ <- 1..3, do: submit!(@long)["id"]
    await_step(hd(ids))
    System.cmd("kill", ["-KILL", "#{ModelNode.os_pid("toy-1")}"])
    all = for id <- ids, do: await_end(id)

    for events <- all do
      assert gapless?(events)
      assert milestones(events) == ~w(queued started retrying queued started completed)
      assert %{data: %{"attempt" => 2}} = List.last(events)
    end

    undisturbed = await_end(submit!(@long, %{"cache" => false})["id"])
    assert [_one] = Enum.uniq([digest(undisturbed) | Enum.map(all, &digest/1)])
  end

  test "when the run's process in the gateway dies, its jobs find together again" do
    ids = for _ <- 1..3, do: submit!(%{@long | "steps" => 200})["id"]
    for id <- ids, do: {:ok, _job, _events, _preview} = Koma.subscribe(id, 0, %Caller{})
    await_step(hd(ids))
    Koma.cancel(hd(ids), %Caller{})
    Process.exit(Processes.whereis(List.last(ids)), :kill)
    [_cancelled | others] = ids
    eventually(fn -> one_process?(others) end)

    for id <- others do
      events = await_end(id)
      assert gapless?(events)
      assert %{type: "completed"} = List.last(events)
      assert Enum.count(events, &(&1.type == "completed")) == 1
    end

    eventually(fn -> Scheduler.running() == 0 and Processes.all() == [] end)
  end

  test "after a restart joined jobs go on together, and one that was cancelled stays so", %{
    dir: dir
  } do
    ids = for _ <- 1..4, do: submit!(@long)["id"]
    await_step(hd(ids))
    Koma.cancel(hd(ids), %Caller{})
    stop_core()
    start_core(dir, share_results: true, wait: false)
    [cancelled | others] = ids
    eventually(fn -> one_process?(others) end)

    for id <- others do
      events = await_end(id)
      assert gapless?(events)
      assert milestones(events) == ~w(queued started retrying queued started completed)
      assert %{"attempt" => 2} = List.last(events).data
    end

    assert %{"state" => "cancelled"} = job(cancelled)
  end

  test "another seed, no seed, cache false: a run of their own" do
    first = submit!(@long)["id"]

    for {params, request} <- [
          {%{@long | "seed" => 8}, %{}},
          {Map.delete(@long, "seed"), %{}},
          {@long, %{"cache" => false}}
        ] do
      id = submit!(params, request)["id"]
      refute one_process?([first, id])
      Koma.cancel(id, %Caller{})
    end

    Koma.cancel(first, %Caller{})
  end

  test "with cache true and any seed both get the seed of the run" do
    params = Map.delete(@long, "seed")
    ids = for _ <- 1..2, do: submit!(params, %{"cache" => true})["id"]
    for id <- ids, do: await_end(id)

    assert [%{"seed" => seed, "params" => %{"seed" => seed}}, %{"seed" => seed}] =
             Enum.map(ids, &job/1)
  end

  test "batch joins interactive, but interactive does not wait for batch" do
    batch = submit!(@long, %{"priority" => "batch"})["id"]
    interactive = submit!(@long)["id"]
    refute one_process?([batch, interactive])
    for id <- [batch, interactive], do: Koma.cancel(id, %Caller{})
    eventually(fn -> Processes.all() == [] end)
    interactive = submit!(@long)["id"]
    batch = submit!(@long, %{"priority" => "batch"})["id"]
    assert one_process?([batch, interactive])
    for id <- [batch, interactive], do: Koma.cancel(id, %Caller{})
  end

  @tag options: [queue_limit: 1]
  test "who joins needs no place in a full queue; a run takes 64 jobs, one more begins another" do
    blockers = for n <- 1..2, do: blocker(n)
    first = submit!(@long)["id"]
    assert {:error, %{code: "overloaded"}} = submit(%{@long | "seed" => 8})
    ids = for _ <- 2..64, do: submit!(@long)["id"]
    assert one_process?([first | ids])
    assert {:error, %{code: "overloaded"}} = submit(@long)
    for id <- blockers, do: Koma.cancel(id, %Caller{})
    eventually(fn -> match?(%{"state" => "running"}, job(first)) end)
    {:ok, another} = submit(@long)
    refute one_process?([first, another["id"]])

    for id <- [another["id"], first | ids],
        do: assert(%{type: "completed"} = List.last(await_end(id)))
  end

  test "a storm of equal requests and cancels: each is answered once, nothing is left" do
    params = fn -> %{"steps" => 5, "step_ms" => 5, "seed" => :rand.uniform(3)} end

    tasks =
      for n <- 1..200 do
        Task.async(fn ->
          id = submit!(params.(), %{"priority" => Enum.random(~w(interactive batch))})["id"]
          if rem(n, 2) == 0, do: Koma.cancel(id, %Caller{})
          await_end(id)
        end)
      end

    for events <- Task.await_many(tasks, 60_000) do
      assert gapless?(events)
      assert Enum.count(events, &Koma.Job.Lifecycle.terminal?(&1.type)) == 1
      assert List.last(events).type in ~w(completed cancelled)
    end

    eventually(fn -> Processes.all() == [] and Scheduler.running() == 0 end)
    assert Queue.position("toy", "any") == nil
    assert Registry.count(Koma.Job.Runs) == 0
  end

  test "of two keys neither sees the other's job, though they share a run" do
    request = %{"task" => "toy.run", "params" => @long}
    {:ok, a} = Koma.submit(request, %Caller{key: "a"})
    {:ok, b} = Koma.submit(request, %Caller{key: "b"})
    assert one_process?([a["id"], b["id"]])
    assert {:error, %{code: "not_found"}} = Koma.cancel(a["id"], %Caller{key: "b"})
    assert {:error, %{code: "not_found"}} = Koma.subscribe(b["id"], 0, %Caller{key: "a"})
    assert :ok = Koma.cancel(a["id"], %Caller{key: "a"})
    assert {:ok, %{"state" => state}} = Koma.job(b["id"], %Caller{key: "b"})
    assert state in ~w(queued running)
    Koma.cancel(b["id"], %Caller{key: "b"})
  end

  defp blocker(seed) do
    id = submit!(%{"steps" => 5_000, "step_ms" => 20, "seed" => seed})["id"]
    eventually(fn -> match?(%{"state" => "running"}, job(id)) end)
    id
  end

  defp submit(params), do: Koma.submit(%{"task" => "toy.run", "params" => params}, %Caller{})

  defp job(id) do
    {:ok, job} = Koma.job(id, %Caller{})
    job
  end

  defp one_process?(ids) do
    match?([pid] when is_pid(pid), ids |> Enum.map(&Processes.whereis/1) |> Enum.uniq())
  end

  defp gapless?(events), do: Enum.map(events, & &1.seq) == Enum.to_list(1..length(events))
  defp tokens(events), do: for(%{type: "token", data: data} <- events, do: data)
end
