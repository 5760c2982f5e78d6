defmodule Koma.Soak.ClusterTest do
  use Koma.ClusterCase, async: false

  alias Koma.{RedisServer, Storm}

  @moduletag :soak
  @moduletag timeout: 3_600_000

  @jobs 1_000
  @seeds 20

  test "#{@jobs} jobs while a peer is killed every 30 s, gateways with followers among them, and the network is cut for 20 s",
       context do
    redis = RedisServer.start(Path.join(context.dir, "redis"))
    peers = start(context, redis)
    [a, b, _c] = peers
    await_cluster(peers, 3)

    undisturbed =
      for seed <- 1..@seeds,
          into: %{},
          do: {seed, digest(await_end(a, submit!(a, params(seed))["id"]))}

    jobs =
      for n <- 1..@jobs,
          do:
            {rem(n, @seeds) + 1,
             submit!(Enum.at([a, b], rem(n, 2)), params(rem(n, @seeds) + 1))["id"]}

    # Each follows on a peer that is up at the moment, and goes on elsewhere when that one is gone.
    {:ok, living} = Agent.start_link(fn -> peers end)

    followers =
      for {seed, id} <- jobs, do: {seed, Task.async(fn -> follow(living, id, 0, []) end)}

    storm = Task.async(fn -> storm(living, peers) end)

    stories = for {seed, task} <- followers, do: {seed, Task.await(task, :infinity)}
    Task.shutdown(storm, :brutal_kill)

    faults =
      for {seed, events} <- stories, fault = Storm.fault(events, undisturbed[seed]), do: fault

    events = Enum.map(stories, &elem(&1, 1))

    IO.puts(
      "\n#{length(stories)} jobs, #{Storm.retries(events)} retries, #{length(faults)} faults"
    )

    assert faults == []
  end

  test "throughput of a toy model that sleeps, on one peer, two and three", context do
    names = names(context, ~w(a b c))
    models = [models: [toy(%{slots: 2})], queue_limit: 1_000]

    for count <- 1..3, reduce: [] do
      peers ->
        role = if peers == [], do: [:gateway, :worker], else: [:worker]
        peers = peers ++ [start_peer(context, names, count - 1, [roles: role] ++ models)]
        await_cluster(peers, count)
        begun = System.monotonic_time(:millisecond)

        ids =
          for seed <- 1..60,
              do: submit!(hd(peers), %{"steps" => 5, "step_ms" => 200, "seed" => seed})["id"]

        for id <- ids, do: await_end(hd(peers), id)
        took = System.monotonic_time(:millisecond) - begun
        IO.puts("#{count} peers: #{Float.round(60_000 / took, 2)} jobs/s")
        peers
    end
  end

  defp start(context, redis) do
    names = names(context, ~w(a b c))

    options = [
      models: [toy(%{slots: 4})],
      queue_limit: 2_000,
      redis: RedisServer.url(redis),
      lease_ms: 3_000
    ]

    for n <- 0..2, do: start_peer(context, names, n, options)
  end

  defp params(seed),
    do: %{"steps" => 20, "step_ms" => 50, "seed" => seed, "tokens" => rem(seed, 3) == 0}

  # One after the other is killed and comes back; then two are cut off from each other.
  defp storm(living, peers) do
    Enum.each(Enum.with_index(peers), fn {_peer, n} ->
      wait(30_000)
      peer = Enum.at(Agent.get(living, & &1), n)
      Agent.update(living, &List.replace_at(&1, n, nil))
      kill(peer)
      wait(5_000)
      options = Map.fetch!(peer, :overrides)

      Agent.update(
        living,
        &List.replace_at(&1, n, start_peer(peer.context, peer.names, n, options))
      )
    end)

    [a, b, _c] = Agent.get(living, & &1)
    cut(a, b)
    wait(20_000)
    heal(a, b)
    storm(living, peers)
  end

  # As a client that reconnects with the number that it saw last.
  defp follow(living, id, seen, events) do
    peer = living |> Agent.get(& &1) |> Enum.reject(&is_nil/1) |> Enum.random()

    case try_call(peer, [id, seen]) do
      {:ok, news} ->
        events = events ++ Enum.filter(news, &(&1.seq > seen))
        last = List.last(events)

        if last && Koma.Job.Lifecycle.terminal?(last.type),
          do: events,
          else: follow(living, id, if(last, do: last.seq, else: 0), events)

      :gone ->
        wait(500)
        follow(living, id, seen, events)
    end
  end

  defp try_call(peer, arguments) do
    {:ok, call(peer, Koma.ClusterCase, :follow_for, arguments)}
  catch
    _kind, _reason -> :gone
  end

  defp wait(ms) do
    receive do
    after
      ms -> :ok
    end
  end
end
