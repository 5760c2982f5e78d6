defmodule Koma.Faults.PoisonJobTest do
  use Koma.CoreCase, async: false

  alias Koma.Scheduler

  @poison %{"steps" => 6, "step_ms" => 10, "fail" => "crash", "fail_at" => 4}

  test "a job that kills its model node twice runs alone the third time, then fails as poison_job",
       %{dir: dir} do
    start_core(dir)
    events = await_end(submit!(@poison)["id"])
    retry = ~w(retrying queued started)
    assert milestones(events) == ~w(queued started) ++ retry ++ retry ++ ["failed"]
    assert %{"code" => "poison_job", "message" => message} = List.last(events).data
    # The gateway sees the end of the process, or of its pipe if it was just writing.
    assert message =~ ~r/exit status 137|its pipe closed/
    assert [first, second] = for(%{type: "retrying", data: data} <- events, do: data["message"])
    refute first =~ "alone"
    assert second =~ "next it runs alone"
    await_ready()
    assert %{type: "completed"} = List.last(await_end(submit!()["id"]))
  end

  test "the jobs beside a poison job all complete, each as undisturbed", %{dir: dir} do
    start_core(dir, models: [toy(%{slots: 4})])
    good = fn seed -> %{"steps" => 8, "step_ms" => 10, "seed" => seed} end
    undisturbed = for seed <- 1..12, do: digest(await_end(submit!(good.(seed))["id"]))

    poison = for _ <- 1..2, do: submit!(@poison)["id"]
    innocent = for seed <- 1..12, do: submit!(good.(seed))["id"]
    for id <- poison, do: assert(%{"code" => "poison_job"} = List.last(await_end(id)).data)
    assert for(id <- innocent, do: digest(await_end(id))) == undisturbed
  end

  test "beside a job that runs alone nothing runs on its model node; other nodes go on", %{
    dir: dir
  } do
    start_core(dir, models: [toy(%{count: 2, slots: 2})])
    # Kills twice, then runs on: long enough to look at.
    params = %{"steps" => 40, "step_ms" => 25, "fail" => "crash", "fail_attempts" => 2}
    suspect = submit!(params)["id"]
    {:ok, _job, _events, _preview} = Koma.subscribe(suspect, 0, %Caller{})
    for _ <- 1..2, do: await_event(suspect, "retrying")
    others = for _ <- 1..12, do: submit!(%{"steps" => 20, "step_ms" => 10})["id"]
    %{data: %{"node" => node}} = await_alone(suspect)

    started = for id <- others, do: id |> await_end() |> Enum.filter(&(&1.type == "started"))
    events = await_end(suspect)
    assert %{type: "completed", data: %{"attempt" => 3}} = List.last(events)
    [alone_from] = for %{type: "started", data: %{"attempt" => 3}, at: at} <- events, do: at
    # The slot is free before `completed` is stored: up to the last but one step it surely ran.
    [_last, %{at: alone_to} | _] =
      events |> Enum.filter(&(&1.type == "progress")) |> Enum.reverse()

    beside =
      for %{data: %{"node" => ^node}, at: at} <- List.flatten(started),
          at in alone_from..alone_to,
          do: at

    assert Enum.filter(beside, &(&1 > alone_from and &1 < alone_to)) == []
    assert Enum.all?(started, &(&1 != []))
  end

  test "a job that waits to run alone and is cancelled gives its model node back", %{dir: dir} do
    start_core(dir, max_attempts: 3)
    suspect = submit!(%{"steps" => 3, "fail" => "crash", "fail_attempts" => 2})["id"]
    {:ok, _job, _events, _preview} = Koma.subscribe(suspect, 0, %Caller{})
    for _ <- 1..2, do: await_event(suspect, "retrying")
    :ok = Koma.cancel(suspect, %Caller{})
    assert %{type: "cancelled"} = List.last(await_end(suspect))
    ids = for _ <- 1..4, do: submit!(%{"steps" => 3})["id"]
    for id <- ids, do: assert(%{type: "completed"} = List.last(await_end(id)))
    eventually(fn -> Scheduler.running() == 0 end)
  end

  test "the process of a job that waits to run alone dies: it still runs alone, and completes", %{
    dir: dir
  } do
    start_core(dir)
    suspect = submit!(%{"steps" => 3, "fail" => "crash", "fail_attempts" => 2})["id"]
    {:ok, _job, _events, _preview} = Koma.subscribe(suspect, 0, %Caller{})
    for _ <- 1..2, do: await_event(suspect, "retrying")
    with pid when is_pid(pid) <- Koma.Job.Processes.whereis(suspect), do: Process.exit(pid, :kill)
    assert %{type: "completed"} = List.last(await_end(suspect))
    assert %{type: "completed"} = List.last(await_end(submit!()["id"]))
  end

  defp await_alone(id) do
    case await_event(id, "started") do
      %{data: %{"attempt" => 3}} = event -> event
      _earlier -> await_alone(id)
    end
  end
end
