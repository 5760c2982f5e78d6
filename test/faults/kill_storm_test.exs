defmodule Koma.Faults.KillStormTest do
  use Koma.CoreCase, async: false

  alias Koma.ModelNode

  test "while model nodes are killed again and again, every job is answered once, as undisturbed",
       %{dir: dir} do
    models = [toy(%{count: 2, slots: 4})]
    start_core(dir, models: models, max_attempts: 1_000, restart_max_ms: 50)
    undisturbed = await_end(submit!(params(1))["id"])

    ids = for _ <- 1..60, do: submit!(params(1))["id"]
    killer = start_supervised!({Task, fn -> kill_for_ever() end})
    stories = for id <- ids, do: await_end(id, 60_000)
    Process.exit(killer, :kill)

    for events <- stories do
      assert digest(events) == digest(undisturbed)
      assert Enum.count(events, &Koma.Job.Lifecycle.terminal?(&1.type)) == 1
      assert Enum.map(events, & &1.seq) == Enum.to_list(1..length(events))
    end

    retries = stories |> List.flatten() |> Enum.count(&(&1.type == "retrying"))
    assert retries > 0
    eventually(fn -> Koma.Scheduler.running() == 0 end)
    eventually(fn -> Koma.Job.Processes.all() == [] end)
    eventually(fn -> File.ls!(Path.join(dir, "work")) == [] end)
  end

  defp params(seed), do: %{"steps" => 10, "step_ms" => 10, "seed" => seed}

  # Each time one that is running jobs, at some moment of its work.
  defp kill_for_ever do
    name = "toy-#{:rand.uniform(2)}"

    eventually(fn ->
      Enum.any?(ModelNode.Catalogue.rows(), &(&1.spec.name == name and &1.phase == :ready))
    end)

    receive do
    after
      :rand.uniform(150) -> :ok
    end

    with os_pid when is_integer(os_pid) <- ModelNode.os_pid(name) do
      System.cmd("kill", ["-KILL", "#{os_pid}"], stderr_to_stdout: true)
    end

    kill_for_ever()
  end
end
