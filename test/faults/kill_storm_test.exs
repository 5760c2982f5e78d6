defmodule Koma.Faults.KillStormTest do
  use Koma.CoreCase, async: false

  @moduletag timeout: 300_000

  alias Koma.Storm

  @callers 10
  @jobs_each 15

  # Who kills from outside can hit one job again and again; that must not count as its poison.
  @attempts 1_000

  test "while model nodes are killed, 150 jobs of 10 callers are answered once, as undisturbed",
       %{dir: dir} do
    start_core(dir,
      models: [toy(%{count: 3, slots: 4})],
      max_attempts: @attempts,
      restart_max_ms: 50
    )

    undisturbed =
      Map.new(1..@jobs_each, fn seed ->
        {seed, digest(await_end(submit!(%{"steps" => 20, "seed" => seed})["id"]))}
      end)

    kills = :counters.new(1, [])
    killer = start_supervised!({Task, fn -> Storm.kill_for_ever(500, kills) end})

    stories =
      1..@callers |> Enum.map(&Task.async(fn -> caller(&1) end)) |> Task.await_many(240_000)

    stories = List.flatten(stories)
    Process.exit(killer, :kill)

    assert length(stories) == @callers * @jobs_each

    faults =
      for {seed, events} <- stories, fault = Storm.fault(events, undisturbed[seed]), do: fault

    assert faults == []
    assert :counters.get(kills, 1) > 3
    assert Storm.retries(Enum.map(stories, &elem(&1, 1))) > 0
    nothing_left(dir)
  end

  defp caller(n) do
    caller = %Caller{key: "key#{rem(n, 3)}"}

    jobs =
      for seed <- 1..@jobs_each do
        params = %{"steps" => 20, "step_ms" => Enum.random([10, 20]), "seed" => seed}
        {:ok, job} = Koma.submit(%{"task" => "toy.run", "params" => params}, caller)
        {follower, events} = follow({:job, job["id"]}, caller)
        {seed, follower, events}
      end

    for {seed, follower, events} <- jobs, do: {seed, events ++ heard(follower, 200_000)}
  end

  defp nothing_left(dir) do
    eventually(fn -> Koma.Scheduler.running() == 0 end)
    eventually(fn -> Koma.Job.Processes.all() == [] end)
    eventually(fn -> File.ls!(Path.join(dir, "work")) == [] end)
  end
end
