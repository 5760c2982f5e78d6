defmodule Koma.Faults.RestartTest do
  use Koma.CoreCase, async: false

  alias Koma.Job.Record
  alias Koma.{OtherBeam, Store}
  alias Koma.Store.Journal

  test "after a stop, queued and running jobs go on and finished ones are readable", %{dir: dir} do
    start_core(dir)
    done = submit!(%{"steps" => 2, "seed" => 1})["id"]
    finished = await_end(done)
    running = submit!(%{"steps" => 40, "step_ms" => 25, "seed" => 2})["id"]
    await_step(running)
    queued = for seed <- 3..8, do: submit!(%{"steps" => 4, "step_ms" => 5, "seed" => seed})["id"]
    stop_core()

    start_core(dir, wait: false)
    assert Store.Jobs.events(done, 0) == as_stored(finished)

    events = await_end(running)
    assert "retrying" in milestones(events)
    assert Enum.map(events, & &1.seq) == Enum.to_list(1..length(events))
    assert %{type: "completed"} = List.last(events)

    for id <- queued do
      events = await_end(id)
      assert %{type: "completed"} = List.last(events)
      assert Enum.map(events, & &1.seq) == Enum.to_list(1..length(events))
    end
  end

  test "a stop of the gateway is not held against the job's attempts", %{dir: dir} do
    start_core(dir, max_attempts: 1)
    id = submit!(%{"steps" => 20, "step_ms" => 25})["id"]
    await_step(id)
    stop_core()
    start_core(dir, max_attempts: 1, wait: false)
    events = await_end(id)
    assert %{type: "completed", data: %{"attempt" => 2}} = List.last(events)
    assert %{"code" => "unavailable"} = Enum.find(events, &(&1.type == "retrying")).data
  end

  test "a deadline that passed while the gateway was down expires the job at the next start", %{
    dir: dir
  } do
    start_core(dir, models: [toy(%{slots: 1})])
    long = %{"steps" => 10_000, "step_ms" => 20}
    ids = for _ <- 1..2, do: submit!(long, %{"deadline_ms" => 1_000})["id"]
    await_step(hd(ids))
    stop_core()

    receive do
    after
      1_000 -> start_core(dir, models: [toy(%{slots: 1})], wait: false)
    end

    for id <- ids, do: assert(%{type: "expired"} = List.last(await_end(id)))
  end

  test "a deadline is not put off by a clock that was set back between two starts", %{dir: dir} do
    journal = Path.join(dir, "jobs/journal")
    File.mkdir_p!(Path.dirname(journal))
    in_two_hours = System.system_time(:millisecond) + 7_200_000

    record = %Record{id: "job_late", task: "toy.run", model: "toy", created_at: in_two_hours}
    File.write!(journal, Journal.encode({:accepted, %{record | deadline_ms: 500}}))
    start_core(dir, models: [])
    assert %{type: "expired"} = List.last(await_end("job_late"))
  end

  test "a job that lost two model nodes still runs alone after a restart", %{dir: dir} do
    start_core(dir)
    params = %{"steps" => 50, "step_ms" => 20, "fail" => "crash", "fail_attempts" => 2}
    id = submit!(params)["id"]
    {:ok, _job, _events, _preview} = Koma.subscribe(id, 0, %Caller{})
    for _ <- 1..2, do: await_event(id, "retrying")
    stop_core()
    start_core(dir)
    eventually(fn -> match?({:ok, %{"state" => "running"}}, Koma.job(id, %Caller{})) end)
    beside = submit!(%{"steps" => 1})["id"]
    events = await_end(id)
    assert %{type: "completed"} = List.last(events)
    # The slot is free before `completed` is stored: up to the last but one step it surely ran.
    [_last, %{at: ran} | _] = events |> Enum.filter(&(&1.type == "progress")) |> Enum.reverse()
    assert %{at: started} = Enum.find(await_end(beside), &(&1.type == "started"))
    assert started >= ran
  end

  test "jobs whose family is not configured after a restart wait in its queue, until their deadline, a cancel, or the family is back",
       %{dir: dir} do
    start_core(dir)
    :ok = Koma.Queue.pause("toy", true)
    [first | _] = ids = for seed <- 1..25, do: submit!(%{"steps" => 1, "seed" => seed})["id"]
    expiring = submit!(%{"steps" => 1}, %{"deadline_ms" => 3_000})["id"]
    cancelled = submit!(%{"steps" => 1})["id"]
    stop_core()

    start_core(dir, models: [])
    # Its queue begins with the first of the stored jobs.
    eventually(fn -> Koma.Queue.pause("toy", false) == :ok end)
    assert %{type: "expired"} = List.last(await_end(expiring))
    visible = %{"family" => "toy", "jobs" => 26, "paused" => false}

    eventually(fn ->
      match?(
        [%{}],
        for(q <- Koma.Admin.queues(), Map.take(q, Map.keys(visible)) == visible, do: q)
      )
    end)

    assert :ok = Koma.cancel(cancelled, %Caller{})
    assert %{type: "cancelled"} = List.last(await_end(cancelled))
    assert {:ok, %{"state" => "queued", "position" => 1}} = Koma.job(first, %Caller{})
    stop_core()

    start_core(dir)
    for id <- ids, do: assert(%{type: "completed"} = List.last(await_end(id)))
  end

  test "SIGKILL of the BEAM loses none of the accepted jobs and answers none twice", %{dir: dir} do
    beam = OtherBeam.start(dir, [], OtherBeam.submits(30, %{"steps" => 10, "step_ms" => 10}))
    ids = OtherBeam.ids(beam)
    OtherBeam.kill(beam)

    start_core(dir, wait: false)

    for id <- ids do
      events = await_end(id)
      assert %{type: "completed"} = List.last(events)
      assert Enum.map(events, & &1.seq) == Enum.to_list(1..length(events))
      assert Enum.count(events, &(&1.type == "completed")) == 1
    end
  end

  test "SIGKILL of the BEAM loses none of the jobs that share a run; each is answered once", %{
    dir: dir
  } do
    params = %{"steps" => 150, "step_ms" => 20, "seed" => 7}
    beam = OtherBeam.start(dir, [share_results: true], OtherBeam.submits(20, params))
    ids = OtherBeam.ids(beam)
    OtherBeam.kill(beam)
    start_core(dir, share_results: true, wait: false)
    all = for id <- ids, do: await_end(id)

    for events <- all do
      assert Enum.map(events, & &1.seq) == Enum.to_list(1..length(events))
      assert milestones(events) == ~w(queued started retrying queued started completed)
    end

    assert [_one] = all |> Enum.map(&digest/1) |> Enum.uniq()
  end

  test "a job under which the whole server dies has it to itself the next time, then fails as poison_job",
       %{dir: dir} do
    overrides = [max_attempts: 2, models: [toy(%{count: 2, slots: 2})]]
    script = OtherBeam.submits(3, %{"steps" => 60, "step_ms" => 25})
    beam = OtherBeam.start(dir, overrides, script)
    [poison | innocent] = OtherBeam.ids(beam)
    OtherBeam.kill(beam)

    again = "Koma.CoreCase.await_attempt(#{inspect(poison)}, 2); IO.puts(\"IDS #{poison}\")"
    beam = OtherBeam.start(dir, overrides, again)
    [^poison] = OtherBeam.ids(beam)
    OtherBeam.kill(beam)

    start_core(dir, overrides)
    events = await_end(poison)
    assert milestones(events) == ~w(queued started retrying queued started failed)
    assert %{"code" => "peer_lost"} = Enum.find(events, &(&1.type == "retrying")).data
    assert %{"code" => "poison_job"} = List.last(events).data
    for id <- innocent, do: assert(%{type: "completed"} = List.last(await_end(id)))
  end

  test "a hung model node does not outlive a BEAM that was killed", %{dir: dir} do
    params = %{"fail" => "hang_gil", "fail_at" => 2}
    beam = OtherBeam.start(dir, [], OtherBeam.submits(1, params))
    [_id] = OtherBeam.ids(beam)
    assert OtherBeam.kill(beam)
  end
end
