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

  test "a job that one gateway is asked to forget, the one that ran it does not show any more",
       context do
    redis = RedisServer.start(Path.join(context.dir, "redis"))
    [a, b, _w] = peers = start(context, redis)
    await_cluster(peers, 2)
    id = submit!(a, %{"steps" => 1})["id"]
    assert %{type: "completed"} = a |> await_end(id) |> List.last()
    assert call(b, Koma, :forget, [id, %Caller{}]) == :ok

    eventually(fn ->
      match?({:error, %{code: "not_found"}}, call(a, Koma, :job, [id, %Caller{}]))
    end)
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

  test "a pipeline whose gateway is killed: the job of its stage is adopted and answered; once the gateway is back the pipeline goes on, and followers elsewhere hear all of it",
       context do
    redis = RedisServer.start(Path.join(context.dir, "redis"))
    [a, b, _w] = peers = start(context, redis)
    await_cluster(peers, 2)
    steps = %{"steps" => 80, "step_ms" => 40, "seed" => 1}
    first = %{"name" => "first", "task" => "toy.run", "params" => steps}
    file = %{"file" => %{"from" => "first.result"}}
    next = %{"name" => "next", "task" => "toy.run", "params" => %{"seed" => 2}, "inputs" => file}
    first = put_in(first["params"]["output_bytes"], 1_000)
    request = %{"stages" => [first, next], "on_disconnect" => "keep"}
    {:ok, %{"id" => id}} = call(a, Koma.Pipeline, :submit, [request, %Caller{}])
    follower = Task.async(fn -> call(b, Koma.CoreCase, :await_pipeline, [id]) end)
    eventually(fn -> stage_job(a, id) != nil end)
    job = stage_job(a, id)
    await_step(a, job)
    kill(a)
    assert {:error, %{code: "unavailable"}} = call(b, Koma.Pipeline, :get, [id, %Caller{}])
    assert %{type: "completed"} = List.last(await_end(b, job))
    _a = restart(a, a.overrides)

    events = Task.await(follower, 60_000)
    assert Enum.map(events, & &1.seq) == Enum.to_list(1..length(events))
    assert %{type: "completed", data: %{"outputs" => outputs}} = List.last(events)
    assert %{"first.result" => _first, "next.result" => _next} = outputs
    # Not run again: the pipeline took over what the other gateway had finished.
    assert [^job] = Enum.uniq(for %{data: %{"stage" => "first", "job" => job}} <- events, do: job)
  end

  defp stage_job(peer, id) do
    {:ok, %{"stages" => [first, _next]}} = call(peer, Koma.Pipeline, :get, [id, %Caller{}])
    first["job"]
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
