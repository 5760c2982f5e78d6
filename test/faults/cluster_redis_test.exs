defmodule Koma.Faults.ClusterRedisTest do
  use Koma.ClusterCase, async: false

  alias Koma.{RedisServer, Storm}

  @moduletag timeout: 180_000

  test "a gateway that is killed: another adopts its jobs with their inputs, its followers hear one story to the end",
       context do
    redis = RedisServer.start(Path.join(context.dir, "redis"))
    [a, b, _w] = peers = start(context, redis)
    await_cluster(peers, 2)
    input = store!(a, :crypto.strong_rand_bytes(500_000))

    ids =
      for seed <- 1..6 do
        params = %{"steps" => 40, "step_ms" => 40, "seed" => seed}
        submit!(a, params, %{"inputs" => %{"file" => input}})["id"]
      end

    followers = for id <- ids, do: Task.async(fn -> await_end(b, id) end)
    await_step(a, hd(ids))
    # Whoever asks the other gateway hears what the owner says.
    assert {:ok, %{"state" => "running"}} = call(b, Koma, :job, [hd(ids), %Caller{}])
    kill(a)

    for {id, follower} <- Enum.zip(ids, followers) do
      events = Task.await(follower, 60_000)
      assert Storm.fault(events, digest(events)) == nil
      {:ok, job} = call(b, Koma, :job, [id, %Caller{}])
      assert %{"state" => "completed"} = job
      again = await_end(b, id)

      assert Enum.map(events, &{&1.seq, &1.type, &1.at}) ==
               Enum.map(again, &{&1.seq, &1.type, &1.at})
    end
  end

  test "a gateway that is cut off keeps its jobs while its lease lasts: each is answered once",
       context do
    redis = RedisServer.start(Path.join(context.dir, "redis"))
    [a, b, w] = peers = start(context, redis)
    await_cluster(peers, 2)

    ids =
      for seed <- 1..6, do: submit!(a, %{"steps" => 40, "step_ms" => 40, "seed" => seed})["id"]

    await_step(a, hd(ids))
    followers = for id <- ids, do: Task.async(fn -> await_end(b, id) end)
    cut(a, b)
    cut(a, w)
    eventually(fn -> call(a, Koma.Cluster, :peers, []) == [] end)
    eventually(fn -> length(call(b, Koma.Cluster, :peers, [])) == 1 end)
    heal(a, b)
    heal(a, w)

    for {id, follower} <- Enum.zip(ids, followers) do
      events = Task.await(follower, 60_000)
      assert Storm.fault(events, digest(events)) == nil
      story = Enum.map(await_end(a, id), &{&1.seq, &1.type, &1.at})
      assert Enum.map(events, &{&1.seq, &1.type, &1.at}) == story
    end
  end

  defp start(context, redis) do
    names = names(context, ~w(a b w))
    gateway = [redis: RedisServer.url(redis), lease_ms: 2_000]
    a = start_peer(context, names, 0, [models: [toy(%{slots: 2})]] ++ gateway)
    b = start_peer(context, names, 1, [roles: [:gateway], models: []] ++ gateway)
    w = start_peer(context, names, 2, roles: [:worker], models: [toy(%{slots: 2})])
    [a, b, w]
  end
end
