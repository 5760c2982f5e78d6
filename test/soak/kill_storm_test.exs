defmodule Koma.Soak.KillStormTest do
  use Koma.EdgeCase

  @moduletag :soak
  @moduletag timeout: 1_800_000

  alias Koma.Storm

  @sockets 50
  @jobs_each 20
  @kill_every_ms 5_000
  @amused %{name: "amused", family: "amused", checkpoint: "emoji", count: 2, slots: 8}
  # Who kills from outside can hit one job again and again; that must not count as its poison.
  @attempts 1_000

  test "1,000 jobs of two families of 50 sockets, a random model node killed every 5 s: each is answered once, as undisturbed",
       %{dir: dir} do
    port =
      start_server(dir,
        models: [toy(%{count: 3, slots: 4}), @amused],
        queue_limit: 1_000,
        max_attempts: @attempts,
        restart_max_ms: 1_000,
        ping_timeout_ms: 20_000,
        wait: false
      )

    eventually(fn -> Koma.ready() == :ok end, 12_000)

    undisturbed =
      Map.new(1..@jobs_each, fn seed ->
        {:ok, %{"id" => id}} = Koma.submit(request(seed, 0), %Caller{})
        {seed, digest(await_end(id, 300_000))}
      end)

    kills = :counters.new(1, [])
    killer = start_supervised!({Task, fn -> Storm.kill_for_ever(@kill_every_ms, kills) end})
    begun = System.monotonic_time(:millisecond)

    stories =
      1..Storm.scaled(@sockets)
      |> Enum.map(fn n -> Task.async(fn -> client(port, n) end) end)
      |> Task.await_many(1_500_000)
      |> List.flatten()

    took = System.monotonic_time(:millisecond) - begun
    Process.exit(killer, :kill)
    events = Enum.map(stories, &elem(&1, 1))

    faults =
      for {seed, events} <- stories, fault = Storm.fault(events, undisturbed[seed]), do: fault

    alone = events |> List.flatten() |> Enum.count(&alone?/1)

    IO.puts(
      "\n#{length(stories)} jobs in #{took} ms, #{:counters.get(kills, 1)} kills, " <>
        "#{Storm.retries(events)} retries, #{alone} run alone, #{length(faults)} faults, " <>
        "#{events |> List.flatten() |> length()} events"
    )

    assert faults == []
    assert length(stories) == Storm.scaled(@sockets) * @jobs_each
    eventually(fn -> Koma.Scheduler.running() == 0 end)
    eventually(fn -> Koma.Job.Processes.all() == [] end)
    eventually(fn -> File.ls!(Path.join(dir, "work")) == [] end)
  end

  defp alone?(event), do: event.type == "retrying" and event.data["message"] =~ "alone"

  defp client(port, n) do
    socket = connect(port)
    join!(socket, "jobs")

    seeds =
      Map.new(1..@jobs_each, fn seed ->
        answer = ask(socket, "jobs", "submit", request(seed, n))
        %{"status" => "ok", "response" => job} = answer
        {"job:" <> job["id"], seed}
      end)

    for topic <- Map.keys(seeds) do
      push(socket, ["j" <> topic, "j" <> topic, topic, "phx_join", %{"previews" => "none"}])
    end

    {:ok, _timer} = :timer.send_interval(20_000, :heartbeat)
    stories = read(socket, Map.new(seeds, fn {topic, _seed} -> {topic, []} end), map_size(seeds))
    for {topic, events} <- stories, do: {seeds[topic], Enum.reverse(events)}
  end

  # Every fifth is an image.
  defp request(seed, _n) when rem(seed, 5) == 0 do
    params = %{"prompt" => "a sailboat on the sea", "steps" => 6, "seed" => seed}
    %{"task" => "image.generate", "params" => params}
  end

  defp request(seed, n) do
    params = %{"steps" => 40, "step_ms" => 10 + 10 * rem(seed + n, 3), "seed" => seed}
    %{"task" => "toy.run", "params" => params}
  end

  defp read(_socket, stories, 0), do: stories

  defp read(socket, stories, open) do
    heartbeat(socket)

    case next(socket, 600_000) do
      [_, nil, "job:" <> _ = topic, type, %{"seq" => seq, "at" => at} = data] ->
        event = %Koma.Job.Event{seq: seq, type: type, at: at, data: data}
        stories = Map.update!(stories, topic, &[event | &1])
        read(socket, stories, if(Koma.Job.Lifecycle.terminal?(type), do: open - 1, else: open))

      [_, _, _topic, reply, _payload] when reply in ["phx_reply", "phx_close"] ->
        read(socket, stories, open)
    end
  end

  defp heartbeat(socket) do
    receive do
      :heartbeat -> push(socket, [nil, "h", "phoenix", "heartbeat", %{}])
    after
      0 -> :ok
    end
  end
end
