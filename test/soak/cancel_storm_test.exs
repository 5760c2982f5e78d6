defmodule Koma.Soak.CancelStormTest do
  use Koma.CoreCase, async: false

  @moduletag :soak
  @moduletag timeout: 1_800_000

  alias Koma.{Inventory, Storm, Telemetry}

  @submits 10_000
  @callers 20

  test "10,000 submits, 90 % cancelled at random moments, leave nothing behind", %{dir: dir} do
    # Finished jobs are forgotten at once, so that whatever is left in a table is a leak.
    start_core(dir,
      models: [toy(%{count: 2, slots: 8})],
      queue_limit: @submits,
      queue_budget_ms: 1_000_000_000,
      retention_jobs: 0
    )

    ends = :counters.new(3, [])
    count(ends)
    # Ends of every kind, by every key, so that their counters are there.
    for n <- 1..4, do: Task.await(Task.async(fn -> caller(n, 50) end), 60_000)
    settled()
    for n <- 1..3, do: :counters.put(ends, n, 0)
    before = Inventory.take(dir)
    tables = Inventory.tables()
    begun = System.monotonic_time(:millisecond)
    submits = Storm.scaled(@submits)
    each = div(submits, @callers)

    callers = for n <- 1..@callers, do: Task.async(fn -> caller(n, each) end)
    cancels = callers |> Task.await_many(900_000) |> List.flatten()
    submitted = System.monotonic_time(:millisecond) - begun
    for pid <- cancels, pid != nil, do: await_down(pid)

    eventually(
      fn -> :counters.get(ends, 1) + :counters.get(ends, 2) == each * @callers end,
      20_000
    )

    settled()
    took = System.monotonic_time(:millisecond) - begun

    IO.puts(
      "\n#{submits} submits in #{submitted} ms, all ended after #{took} ms: " <>
        "#{:counters.get(ends, 1)} completed, #{:counters.get(ends, 2)} cancelled, " <>
        "#{:counters.get(ends, 3)} others\nbefore #{inspect(before)}\nafter  #{inspect(Inventory.take(dir))}\n" <>
        "tables that grew: #{inspect(Inventory.grown(tables, Inventory.tables()))}"
    )

    assert :counters.get(ends, 3) == 0
    assert :counters.get(ends, 1) >= div(submits, 10)
    assert Inventory.leaks(before, Inventory.take(dir)) == []
    Telemetry.detach("storm")
    {:ok, job} = Koma.submit(%{"task" => "toy.run", "params" => %{"steps" => 5}}, %Caller{})
    assert is_binary(job["id"])
    settled()
  end

  defp count(ends) do
    Telemetry.attach(
      "storm",
      [[:koma, :job, :finished]],
      fn _event, _measured, %{state: state}, _ ->
        slot = %{"completed" => 1, "cancelled" => 2}[state] || 3
        :counters.add(ends, slot, 1)
      end,
      nil
    )
  end

  defp caller(n, each) do
    caller = %Caller{key: "key#{rem(n, 4)}"}

    for i <- 1..each do
      params = %{"steps" => 1 + rem(i, 10), "step_ms" => 100}
      request = %{"task" => "toy.run", "params" => params, "on_disconnect" => "keep"}
      {:ok, %{"id" => id}} = Koma.submit(request, caller)
      if rem(i, 10) != 0, do: spawn(fn -> cancel(id, caller) end)
    end
  end

  defp await_down(pid) do
    ref = Process.monitor(pid)
    receive do: ({:DOWN, ^ref, :process, ^pid, _reason} -> :ok)
  end

  defp cancel(id, caller) do
    receive do
    after
      :rand.uniform(1_000) -> :ok
    end

    # Twice; not_found when it has ended and was forgotten.
    for _ <- 1..2 do
      case Koma.cancel(id, caller) do
        :ok -> :ok
        {:error, %{code: "not_found"}} -> :ok
      end
    end
  end

  defp settled do
    eventually(fn -> Koma.Job.Processes.all() == [] end, 4_000)
    eventually(fn -> Koma.Scheduler.running() == 0 end, 4_000)
  end
end
