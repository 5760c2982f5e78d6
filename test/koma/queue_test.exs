defmodule Koma.QueueTest do
  use Koma.CoreCase, async: false

  alias Koma.Queue
  alias Koma.Queue.Ticket
  alias Koma.Store.Jobs

  @run %{"task" => "toy.run"}

  defp caller(key), do: %Caller{key: key}

  defp submit_as(key, params \\ %{}, request \\ %{}) do
    @run |> Map.put("params", params) |> Map.merge(request) |> Koma.submit(caller(key))
  end

  # Holds the only slot until it is cancelled.
  defp block do
    id = submit!(%{"steps" => 10_000, "step_ms" => 10})["id"]
    await_step(id)
    id
  end

  defp started_at(id), do: Enum.find(Jobs.events(id, 0), &(&1.type == "started")).at

  test "a key that sent many jobs first does not keep another key waiting behind them", %{
    dir: dir
  } do
    start_core(dir, models: [toy(%{slots: 1})])
    blocker = block()
    many = for _ <- 1..8, do: elem(submit_as("many"), 1)["id"]
    {:ok, %{"id" => one, "position" => 2}} = submit_as("one")
    :ok = Koma.cancel(blocker, %Caller{})
    eventually(fn -> Enum.all?([one | many], &ended?/1) end)
    assert Enum.count(many, &(started_at(&1) < started_at(one))) <= 1
  end

  test "a key that fills the queue is refused, another one is not", %{dir: dir} do
    start_core(dir, models: [toy(%{slots: 1})], queue_limit: 4)
    block()
    for _ <- 1..4, do: assert({:ok, _job} = submit_as("many"))
    assert {:error, %{code: "overloaded", bound: 4}} = submit_as("many")
    for _ <- 1..2, do: assert({:ok, _job} = submit_as("one"))
    assert {:error, %{code: "overloaded"}} = submit_as("one")
  end

  test "a refusal needs no disk: it is answered while the store answers nothing", %{dir: dir} do
    start_core(dir, models: [toy(%{slots: 1})], queue_limit: 2)
    block()
    for _ <- 1..2, do: submit!()
    :ok = :sys.suspend(Koma.Store.Disk)
    refusals = for _ <- 1..50, do: Task.async(fn -> submit_as(nil) end)

    for answer <- Task.await_many(refusals, 2_000) do
      assert {:error, %{code: "overloaded", retry_after_ms: retry}} = answer
      assert retry >= 1
    end

    :ok = :sys.resume(Koma.Store.Disk)
  end

  test "a full queue need not be asked: it is full until somebody leaves or has their turn", %{
    dir: dir
  } do
    start_core(dir, models: [toy(%{slots: 1})], queue_limit: 2)
    blocker = block()
    [first, second] = for _ <- 1..2, do: submit!(%{"steps" => 10_000, "step_ms" => 10})["id"]
    assert {:error, %{code: "overloaded"} = error} = submit_as(nil)
    :ok = :sys.suspend(queue_pid())
    assert submit_as(nil) == {:error, error}
    :ok = :sys.resume(queue_pid())
    :ok = Koma.cancel(first, %Caller{})
    assert {:ok, _job} = submit_as(nil)
    assert {:error, %{code: "overloaded"}} = submit_as(nil)
    :ok = Koma.cancel(blocker, %Caller{})
    await_step(second)
    assert {:ok, _job} = submit_as(nil)
  end

  test "who was refused by a full queue is told of a stop, and let in by a greater weight", %{
    dir: dir
  } do
    start_core(dir, models: [toy(%{slots: 1})], queue_limit: 4)
    block()
    for _ <- 1..4, do: assert({:ok, _job} = submit_as("many"))
    for _ <- 1..2, do: assert({:ok, _job} = submit_as("one"))
    for _ <- 1..2, do: assert({:error, %{code: "overloaded"}} = submit_as("one"))
    :ok = Queue.drain(true)
    assert {:error, %{code: "draining"}} = submit_as("one")
    :ok = Queue.drain(false)
    assert {:error, %{code: "overloaded"}} = submit_as("one")
    :ok = Queue.weigh(%{"one" => 3})
    # The weights are known when the queue answers.
    assert %{jobs: 6} = Queue.depth("toy", 5_000)
    assert {:ok, _job} = submit_as("one")
  end

  test "refusals are counted, whether the queue was asked or not", %{dir: dir} do
    start_core(dir, models: [toy(%{slots: 1})], queue_limit: 1)
    block()
    submit!()
    test = self()
    tell = fn _event, %{count: 1}, about, nil -> send(test, {:refused, about}) end
    :ok = Koma.Telemetry.attach("refusals", [[:koma, :queue, :refused]], tell, nil)
    for _ <- 1..3, do: assert({:error, %{code: "overloaded"}} = submit_as(nil))
    for _ <- 1..3, do: assert_receive({:refused, %{model: "toy", code: "overloaded"}})
    refute_received {:refused, _about}
  end

  test "weights of keys decide their shares", %{dir: dir} do
    start_core(dir, models: [toy(%{slots: 1})], keys: key("heavy", "weight=3"))
    blocker = block()
    light = for _ <- 1..6, do: elem(submit_as("light"), 1)["id"]
    heavy = for _ <- 1..6, do: elem(submit_as("heavy"), 1)["id"]
    :ok = Koma.cancel(blocker, %Caller{})
    eventually(fn -> Enum.all?(light ++ heavy, &ended?/1) end)
    second_light = light |> Enum.at(1) |> started_at()
    assert Enum.count(heavy, &(started_at(&1) < second_light)) >= 3
  end

  test "much work is refused before many jobs are: costs are learned from what ran", %{dir: dir} do
    start_core(dir, models: [toy(%{slots: 1})], queue_budget_ms: 2_000)
    slow = %{"steps" => 40, "step_ms" => 30}
    await_end(submit!(slow)["id"])
    await_end(submit!(%{"steps" => 1})["id"])
    block()
    assert {:ok, _job} = submit_as(nil, slow)
    assert {:error, %{code: "overloaded", bound: 2_000} = error} = submit_as(nil, slow)
    assert error.message =~ "full of work"
    assert error.retry_after_ms >= 1
    for _ <- 1..5, do: assert({:ok, _job} = submit_as(nil, %{"steps" => 1}))
  end

  test "a job whose process died may wait again before the queue knows of the death", %{dir: dir} do
    start_core(dir, models: [toy(%{slots: 1})])
    blocker = block()
    [first, second] = for _ <- 1..2, do: submit!()["id"]
    queue = queue_pid()
    ticket = %Ticket{id: first, key: nil, class: :interactive, work: {"toy.run", 2}}
    # This process takes the place of the job's own, which lives.
    assert %{"position" => 2} = Queue.enqueue("toy", ticket)
    assert Queue.position("toy", second) == 1
    assert Queue.depth("toy", 5_000).jobs == 2
    Queue.leave("toy", first)
    assert Queue.depth("toy", 5_000).jobs == 1
    assert queue_pid() == queue
    for id <- [blocker, first, second], do: Koma.cancel(id, %Caller{})
  end

  defp queue_pid, do: GenServer.whereis({:via, Registry, {Koma.Queue.Registry, "toy"}})

  test "a waiting job is told when its place changes, and only then", %{dir: dir} do
    start_core(dir, models: [toy(%{slots: 1})], queue_update_ms: 20)
    blockers = [block() | for(_ <- 1..3, do: submit!(%{"steps" => 10_000})["id"])]
    id = submit!()["id"]
    {:ok, _job, [%{data: %{"position" => 4}}], _preview} = Koma.subscribe(id, 0, %Caller{})

    for {waiting, position} <- Enum.zip(Enum.reverse(tl(blockers)), [3, 2, 1]) do
      :ok = Koma.cancel(waiting, %Caller{})
      assert %{data: %{"position" => ^position}} = await_event(id, "queued")
    end

    refute_receive {:koma_events, ^id, _events}, 200
    :ok = Koma.cancel(hd(blockers), %Caller{})
    await_event(id, "completed")
    events = Jobs.events(id, 0)
    assert Enum.map(events, & &1.seq) == Enum.to_list(1..length(events))
    assert Enum.count(events, &(&1.type == "queued")) == 4
  end

  test "however often places change, a job is told at most once per period", %{dir: dir} do
    start_core(dir, models: [toy(%{slots: 1})], queue_update_ms: 150)
    block()
    ahead = for _ <- 1..60, do: submit!(%{})["id"]
    id = submit!()["id"]
    for other <- ahead, do: :ok = Koma.cancel(other, %Caller{})
    eventually(fn -> match?([%{data: %{"position" => 1}} | _], queued(id)) end)
    times = id |> queued() |> Enum.map(& &1.at) |> Enum.reverse()
    assert length(times) <= 61
    gaps = times |> Enum.zip(tl(times)) |> Enum.map(fn {a, b} -> b - a end)
    # The store and the clock of the queue differ by what a message takes.
    assert Enum.all?(gaps, &(&1 >= 75))
  end

  test "a batch job is served while interactive ones keep coming", %{dir: dir} do
    start_core(dir, models: [toy(%{slots: 1})])
    block = block()
    batch = submit!(%{"steps" => 1}, %{"priority" => "batch"})["id"]
    interactive = for _ <- 1..30, do: submit!(%{"steps" => 1})["id"]
    :ok = Koma.cancel(block, %Caller{})
    eventually(fn -> Enum.all?([batch | interactive], &ended?/1) end)
    before = Enum.count(interactive, &(started_at(&1) < started_at(batch)))
    assert before in 5..10
  end

  test "a promise does not outlive the process to which it was made", %{dir: dir} do
    start_core(dir, models: [toy(%{slots: 1})], queue_limit: 1)
    block()
    ticket = Koma.Queue.Ticket.new(%{id: "job_x", key: nil, task: "t", size: 0}, :batch)
    assert Task.await(Task.async(fn -> Koma.Queue.admit("toy", ticket) end)) == :ok
    eventually(fn -> match?({:ok, _job}, submit_as(nil)) end)
  end

  defp queued(id),
    do: for(%{type: "queued"} = event <- Enum.reverse(Jobs.events(id, 0)), do: event)

  defp ended?(id) do
    {:ok, record} = Jobs.fetch(id)
    Koma.Job.Record.ended?(record)
  end
end
