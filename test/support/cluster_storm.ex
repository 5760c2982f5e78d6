defmodule Koma.ClusterStorm do
  @moduledoc """
  Kills peers and cuts the network between them, one after the other, while jobs run and clients follow
  them, which go on elsewhere when their gateway is gone; and judges what they were told.
  """

  import Koma.ClusterCase

  alias Koma.{RedisServer, Storm}

  @seeds 20

  @doc """
  Runs so many jobs on three peers that are gateway and worker, with a Redis. Options: `:every_ms` between two
  deaths, `:down_ms` until a peer is started again, `:cut_ms`, and `:steps` of a job, 50 ms each. Returns what is wrong: nothing, if all is well.
  """
  @spec run(map, pos_integer, keyword) :: [{seed :: pos_integer, fault :: term}]
  def run(context, count, times) do
    times = Map.new(times)
    peers = start(context)
    await_cluster(peers, 3)
    [a, b, _c] = peers
    params = &params(&1, times.steps)
    undisturbed = for seed <- 1..@seeds, into: %{}, do: {seed, digest(a, params.(seed))}

    jobs =
      for n <- 1..count do
        seed = rem(n, @seeds) + 1
        {seed, submit!(Enum.at([a, b], rem(n, 2)), params.(seed))["id"]}
      end

    {:ok, living} = Agent.start_link(fn -> peers end)
    followers = Task.async(fn -> follow_all(living, jobs) end)
    # Peers are started by the process of the test, which ends them, too.
    {stories, blows} = storm(living, times, followers.ref, 0)
    report(stories, blows)

    for {seed, events} <- stories,
        fault = Storm.fault(events, undisturbed[seed]),
        do: {seed, fault}
  end

  defp digest(peer, params),
    do: Koma.CoreCase.digest(await_end(peer, submit!(peer, params)["id"]))

  defp report(stories, blows) do
    retries = stories |> Enum.map(&elem(&1, 1)) |> Storm.retries()
    IO.puts("\n#{length(stories)} jobs, #{blows} blows, #{retries} retries")
  end

  defp start(context) do
    names = names(context, ~w(a b c))
    redis = RedisServer.start(Path.join(context.dir, "redis"))

    options = [
      models: [Koma.CoreCase.toy(%{slots: 4})],
      queue_limit: 2_000,
      # Who kills from outside can hit one job again and again; that must not count as its poison.
      max_attempts: 1_000,
      redis: RedisServer.url(redis),
      lease_ms: 3_000
    ]

    for n <- 0..2, do: start_peer(context, names, n, options)
  end

  defp params(seed, steps) do
    %{"steps" => steps, "step_ms" => 50, "seed" => seed, "tokens" => rem(seed, 3) == 0}
  end

  # Few at a time: each holds a call to a peer.
  defp follow_all(living, jobs) do
    jobs
    |> Task.async_stream(fn {seed, id} -> {seed, follow(living, id, [])} end,
      max_concurrency: 64,
      timeout: :infinity
    )
    |> Enum.map(fn {:ok, story} -> story end)
  end

  # One after the other is killed and comes back; then two are cut off from each other; and so on,
  # until all stories are told.
  defp storm(living, times, followers, blows) do
    receive do
      {^followers, stories} -> {stories, blows}
    after
      times.every_ms ->
        blow(living, rem(blows, 4), times)
        storm(living, times, followers, blows + 1)
    end
  end

  defp blow(living, 3, times) do
    [a, b, _c] = Agent.get(living, & &1)
    cut(a, b)
    Process.sleep(times.cut_ms)
    heal(a, b)
  end

  defp blow(living, n, times) do
    peer = Agent.get(living, &Enum.at(&1, n))
    Agent.update(living, &List.replace_at(&1, n, nil))
    kill(peer)
    Process.sleep(times.down_ms)
    peer = start_peer(peer.context, peer.names, n, peer.overrides)
    Agent.update(living, &List.replace_at(&1, n, peer))
  end

  # As a client that connects again with the number that it saw last, to any gateway that is up.
  defp follow(living, id, events) do
    last = List.last(events)

    if last && Koma.Job.Lifecycle.terminal?(last.type) do
      events
    else
      seen = if last, do: last.seq, else: 0
      peer = living |> Agent.get(& &1) |> Enum.reject(&is_nil/1) |> Enum.random()
      follow(living, id, events ++ told(peer, id, seen))
    end
  end

  defp told(peer, id, seen) do
    call(peer, Koma.ClusterCase, :follow_for, [id, seen])
  catch
    _kind, _it_is_gone ->
      Process.sleep(500)
      []
  end
end
