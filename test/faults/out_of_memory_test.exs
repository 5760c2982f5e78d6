defmodule Koma.Faults.OutOfMemoryTest do
  use Koma.CoreCase, async: false

  test "jobs that do not fit into one forward together all complete, and nothing is killed", %{
    dir: dir
  } do
    start_core(dir, models: [toy(%{slots: 8, options: %{"batch_limit" => 3}})])
    os_pid = Koma.ModelNode.os_pid("toy-1")
    params = &%{"steps" => 10, "step_ms" => 20, "seed" => &1}
    ids = for seed <- 1..8, do: submit!(params.(seed))["id"]
    stories = for id <- ids, do: await_end(id)
    alone = for seed <- 1..8, do: await_end(submit!(%{params.(seed) | "step_ms" => 0})["id"])

    for events <- stories, do: assert(milestones(events) == ~w(queued started completed))
    assert Enum.map(stories, &digest/1) == Enum.map(alone, &digest/1)
    assert Koma.ModelNode.os_pid("toy-1") == os_pid
  end

  test "a job that does not fit even alone fails as out_of_memory; those beside it complete", %{
    dir: dir
  } do
    start_core(dir, models: [toy(%{slots: 4})])
    os_pid = Koma.ModelNode.os_pid("toy-1")
    good = for _ <- 1..3, do: submit!(%{"steps" => 10, "step_ms" => 20})["id"]
    bad = submit!(%{"steps" => 10, "step_ms" => 20, "fail" => "oom", "fail_at" => 3})["id"]
    assert %{type: "failed", data: %{"code" => "out_of_memory"}} = List.last(await_end(bad))
    for id <- good, do: assert(%{type: "completed"} = List.last(await_end(id)))
    assert Koma.ModelNode.os_pid("toy-1") == os_pid
  end
end
