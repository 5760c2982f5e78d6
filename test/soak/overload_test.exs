defmodule Koma.Soak.OverloadTest do
  use Koma.EdgeCase

  @moduletag :soak
  @moduletag timeout: 600_000

  alias Koma.{Crowd, Storm, Telemetry}

  @run_ms 60_000
  @callers 32
  @every_ms 50
  @queue_limit 64
  @params %{"steps" => 5, "step_ms" => 50}

  # 16 slots, 250 ms each: 64 jobs a second at best; the callers ask 640 times.
  test "ten times more than can be served for a minute: refusals within 10 ms, accepted jobs within twice their time and the bounded queue's, memory flat",
       %{dir: dir} do
    port =
      start_server(dir,
        models: [toy(%{count: 2, slots: 8})],
        queue_limit: @queue_limit,
        retention_jobs: 500
      )

    told = told()
    for n <- 1..100, do: n |> rem(4) |> alone()
    {unloaded, _waits, _depth} = taken(told)
    crowd = Crowd.start()
    _warm = measure(crowd, port, 10_000)
    taken(told)
    before = memory()
    answers = measure(crowd, port, Storm.scaled(@run_ms))
    grown = div(memory() - before, 1_000_000)
    {runs, waits, depth} = taken(told)

    by =
      for {how, told} <- answers, {accepted?, us} <- told, reduce: %{} do
        by -> Map.update(by, {how, accepted?}, [us], &[us | &1])
      end

    IO.puts(
      "\n#{by |> Map.values() |> Enum.concat() |> length()} submits; memory grew by #{grown} MB"
    )

    IO.puts("unloaded, ms: #{quantiles(unloaded)}; at most #{depth} waited")
    IO.puts("loaded, ms, less the wait: #{quantiles(runs)}; the wait: #{quantiles(waits)}")

    for {{how, accepted?}, us} <- Enum.sort(by) do
      answer = if accepted?, do: "accepted", else: "refused"
      IO.puts("#{how} #{answer}, ms: #{quantiles(for each <- us, do: each / 1000)}")
    end

    assert length(by[{:façade, false}]) > length(by[{:façade, true}])
    for how <- [:façade, :socket], do: assert(at(by[{how, false}], 0.99) < 10_000)
    assert at(runs, 0.99) <= 2 * at(unloaded, 0.99)
    # Keys below their share get in beyond the limit.
    assert depth <= 2 * @queue_limit
    assert grown < 30
  end

  # What the server says of each job: how long it waited, how long all of it took; and how many wait.
  defp told do
    table = :ets.new(:told, [:public, :ordered_set])
    events = [[:koma, :job, :started], [:koma, :job, :finished], [:koma, :queue, :depth]]
    :ok = Telemetry.attach("overload", events, &tell/4, table)
    table
  end

  defp tell([_, _, :started], %{queue_ms: ms}, %{id: id}, table),
    do: :ets.insert(table, {{:wait, id}, ms})

  defp tell([_, _, :finished], %{duration_ms: ms}, %{id: id}, table),
    do: :ets.insert(table, {{:all, id}, ms})

  defp tell([_, _, :depth], %{jobs: jobs}, _about, table),
    do: :ets.insert(table, {{:depth, jobs}, jobs})

  defp taken(table) do
    all = :ets.tab2list(table)
    :ets.delete_all_objects(table)
    waits = for {{:wait, id}, ms} <- all, into: %{}, do: {id, ms}
    runs = for {{:all, id}, ms} <- all, wait = waits[id], do: ms - wait
    {runs, Map.values(waits), Enum.max(for({{:depth, _}, jobs} <- all, do: jobs), fn -> 0 end)}
  end

  defp alone(n) do
    {:ok, %{"id" => id}} = Koma.submit(request(), %Caller{key: "key#{n}"})
    {:ok, _job, events, _preview} = Koma.subscribe(id, 0, %Caller{key: "key#{n}"})
    if not Enum.any?(events, &(&1.type == "completed")), do: await_event(id, "completed")
  end

  defp memory do
    eventually(fn -> Koma.Job.Processes.all() == [] end)
    for pid <- Process.list(), do: :erlang.garbage_collect(pid)
    :erlang.memory(:total)
  end

  # Half of them over sockets, to the last byte, from a process of their own; half ask the façade.
  defp measure(crowd, port, ms) do
    until = System.monotonic_time(:millisecond) + ms
    half = div(@callers, 2)

    inside =
      for n <- 1..half, do: Task.async(fn -> inside(%Caller{key: "key#{rem(n, 4)}"}, until) end)

    over = Crowd.submit(crowd, port, request(), half, @every_ms, ms)
    inside = inside |> Task.await_many(ms + 60_000) |> Enum.concat()
    %{façade: inside, socket: over}
  end

  defp inside(caller, until) do
    Crowd.repeat(fn -> match?({:ok, _job}, Koma.submit(request(), caller)) end, @every_ms, until)
  end

  defp request, do: %{"task" => "toy.run", "params" => @params, "on_disconnect" => "keep"}

  defp at(values, share) do
    sorted = Enum.sort(values)
    Enum.at(sorted, trunc(share * (length(sorted) - 1)))
  end

  defp quantiles(values) do
    "#{length(values)}, median #{at(values, 0.5)}, p99 #{at(values, 0.99)}, max #{Enum.max(values)}"
  end
end
