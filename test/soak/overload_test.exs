defmodule Koma.Soak.OverloadTest do
  use Koma.EdgeCase

  @moduletag :soak
  @moduletag timeout: 600_000

  alias Koma.{Storm, Telemetry}

  @run_ms 60_000
  @callers 32
  @queue_limit 256
  @params %{"steps" => 5, "step_ms" => 10}

  # 16 slots, 50 ms each: 320 jobs a second at best; the callers ask ten times as often.
  test "ten times more than can be served for a minute: refusals within 10 ms, accepted jobs in twice their time and the queue's, memory flat",
       %{dir: dir} do
    port =
      start_server(dir,
        models: [toy(%{count: 2, slots: 8})],
        queue_limit: @queue_limit,
        retention_jobs: 1_000
      )

    durations = durations()
    for n <- 1..200, do: n |> rem(4) |> alone()
    unloaded = taken(durations)
    _warm = measure(port, 3_000)
    taken(durations)
    before = memory()
    begun = System.monotonic_time(:millisecond)
    answers = measure(port, Storm.scaled(@run_ms))
    rate = length(:ets.tab2list(durations)) / (System.monotonic_time(:millisecond) - begun)
    loaded = taken(durations)
    grown = div(memory() - before, 1_000_000)
    bound = 2 * at(unloaded, 0.99) + @queue_limit / rate
    by = Enum.group_by(answers, fn {how, answer, _us} -> {how, answer} end, &elem(&1, 2))

    IO.puts(
      "\n#{length(answers)} submits; #{round(rate * 1000)} jobs/s; memory grew by #{grown} MB"
    )

    IO.puts(
      "duration of jobs in ms: unloaded #{quantiles(unloaded)}; loaded #{quantiles(loaded)}"
    )

    IO.puts("at most #{round(bound)}: twice that, and #{@queue_limit} jobs at that rate")

    for {{how, answer}, us} <- Enum.sort(by),
        do: IO.puts("#{how} #{answer}, ms: #{quantiles(for each <- us, do: each / 1000)}")

    assert length(by[{:façade, :refused}]) > length(by[{:façade, :accepted}])
    for how <- [:façade, :socket], do: assert(at(by[{how, :refused}], 0.99) < 10_000)
    assert at(loaded, 0.99) <= bound
    assert grown < 50
  end

  # How long each job took that ended, as the server sees it.
  defp durations do
    table = :ets.new(:durations, [:public, :duplicate_bag])

    :ok =
      Telemetry.attach(
        "overload",
        [[:koma, :job, :finished]],
        fn _event, %{duration_ms: ms}, _about, nil -> :ets.insert(table, {make_ref(), ms}) end,
        nil
      )

    on_exit(fn -> Telemetry.detach("overload") end)
    table
  end

  defp taken(table) do
    taken = for {_ref, ms} <- :ets.tab2list(table), do: ms
    :ets.delete_all_objects(table)
    taken
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

  defp measure(port, ms) do
    until = System.monotonic_time(:millisecond) + ms

    1..@callers
    |> Enum.map(fn n -> Task.async(fn -> caller(port, n, until) end) end)
    |> Task.await_many(ms + 60_000)
    |> List.flatten()
  end

  # Half of them over sockets, to the last byte; half ask the façade.
  defp caller(port, n, until) when rem(n, 2) == 0 do
    socket = connect(port)
    join!(socket, "jobs")
    ask = fn request -> ask(socket, "jobs", "submit", request)["status"] == "ok" end
    loop(:socket, ask, until, [])
  end

  defp caller(_port, n, until) do
    caller = %Caller{key: "key#{rem(n, 4)}"}
    loop(:façade, &match?({:ok, _job}, Koma.submit(&1, caller)), until, [])
  end

  defp loop(how, ask, until, answers) do
    if System.monotonic_time(:millisecond) > until do
      answers
    else
      {us, accepted?} = :timer.tc(fn -> ask.(request()) end)
      Process.sleep(max(10 - div(us, 1_000), 0))
      loop(how, ask, until, [{how, if(accepted?, do: :accepted, else: :refused), us} | answers])
    end
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
