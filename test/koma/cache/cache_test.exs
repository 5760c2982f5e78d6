defmodule Koma.CacheTest do
  use Koma.CoreCase, async: false

  alias Koma.Cache
  alias Koma.Store.{Artifacts, Jobs}

  @seeded %{"steps" => 4, "seed" => 7}

  setup %{dir: dir} = context do
    start_core(dir, [share_results: true] ++ Map.get(context, :options, []))
  end

  test "an equal request is answered at once: a job of its own, complete, with the same result" do
    first = run(@seeded)
    hit = submit!(@seeded)
    assert %{"state" => "completed", "cached" => true, "seed" => 7} = hit
    assert hit["id"] != first["id"]
    assert hit["outputs"] == first["outputs"]
    assert [%{seq: 1, type: "completed", data: %{"cached" => true}}] = await_end(hit["id"])
    assert {:ok, ^hit} = Koma.job(hit["id"], %Caller{})
    assert Koma.cancel(hit["id"], %Caller{}) == :ok
    refute Map.has_key?(first, "cached")
  end

  test "an answer from the cache shows no timings: those of another run are not its own" do
    assert %{"timings" => %{"total_ms" => _}} = run(@seeded)
    hit = submit!(@seeded)
    refute Map.has_key?(hit, "timings")
    assert [%{type: "completed", data: data}] = await_end(hit["id"])
    refute Map.has_key?(data, "timings")
    {:ok, job} = Koma.job(hit["id"], %Caller{})
    refute Map.has_key?(job, "timings")
  end

  test "defaults that are written out, and numbers written otherwise, are the same request" do
    run(%{"seed" => 7})
    assert %{"cached" => true} = submit!(%{"seed" => 7.0, "steps" => 4, "fail" => "none"})
  end

  test "another seed, parameter or input is another request" do
    run(@seeded)
    {:ok, writer} = Artifacts.open("text/plain")
    {:ok, file, _new} = Artifacts.commit(writer, nil)

    for {params, request} <- [
          {%{@seeded | "seed" => 8}, %{}},
          {%{@seeded | "steps" => 5}, %{}},
          {@seeded, %{"inputs" => %{"file" => file.id}}}
        ] do
      job = submit!(params, request)
      refute job["cached"]
      await_end(job["id"])
    end
  end

  test "a request without a seed is neither kept nor answered from the cache, unless asked" do
    run(%{"steps" => 4})
    refute submit!(%{"steps" => 4})["cached"]
    refute submit!(%{"steps" => 4}, %{"cache" => true})["cached"]

    asked = run(%{"steps" => 5}, %{"cache" => true})
    refute run(%{"steps" => 5})["cached"]
    again = submit!(%{"steps" => 5}, %{"cache" => true})
    assert %{"cached" => true, "seed" => seed, "params" => %{"seed" => seed}} = again
    assert seed == asked["seed"]
    assert again["outputs"] == asked["outputs"]
  end

  test "with cache false a request is neither kept nor answered from the cache" do
    run(@seeded, %{"cache" => false})
    refute run(@seeded)["cached"]
    refute submit!(@seeded, %{"cache" => false})["cached"]
    assert {:error, %{code: "wrong_type", field: "cache"}} = submit(%{"cache" => "yes"})
  end

  test "what failed or was cancelled is not kept" do
    assert %{"state" => "failed"} = run(Map.put(@seeded, "fail", "step"))
    refute submit!(Map.put(@seeded, "fail", "step"))["cached"]
    long = Map.merge(@seeded, %{"steps" => 1000, "step_ms" => 20})
    id = submit!(long)["id"]
    Koma.cancel(id, %Caller{})
    job = submit!(long)
    refute job["cached"]
    Koma.cancel(job["id"], %Caller{})
  end

  test "hits and what they were made from are there after a restart", %{dir: dir} do
    first = run(Map.put(@seeded, "output_bytes", 20_000))
    hit = submit!(Map.put(@seeded, "output_bytes", 20_000))
    stop_core()
    start_core(dir, share_results: true)
    assert {:ok, ^hit} = Koma.job(hit["id"], %Caller{})
    assert [%{type: "completed"}] = await_end(hit["id"])
    again = submit!(Map.put(@seeded, "output_bytes", 20_000))
    assert again["cached"] and again["outputs"] == first["outputs"]
  end

  test "a result whose artifact was deleted is computed anew" do
    params = Map.put(@seeded, "output_bytes", 20_000)
    %{"outputs" => [%{"artifact" => id}]} = run(params)
    File.rm!(Artifacts.path(id))
    assert %{"state" => "completed", "outputs" => [%{"artifact" => ^id}]} = job = run(params)
    refute job["cached"]
    assert submit!(params)["cached"]
  end

  @tag options: [cache_bytes: 100_000]
  test "beyond its bytes those go that were not asked for the longest" do
    params = &%{"steps" => 1, "output_bytes" => 40_000, "seed" => &1}
    run(params.(1))
    run(params.(2))
    assert submit!(params.(1))["cached"]
    run(params.(3))
    assert submit!(params.(1))["cached"]
    assert submit!(params.(3))["cached"]
    refute submit!(params.(2))["cached"]
    # Larger than the whole cache: it stays out, and the others stay in.
    run(%{"steps" => 1, "output_bytes" => 200_000, "seed" => 4})
    refute submit!(%{"steps" => 1, "output_bytes" => 200_000, "seed" => 4})["cached"]
  end

  @tag options: [cache_bytes: 0]
  test "a cache of no bytes holds nothing" do
    run(@seeded)
    refute submit!(@seeded)["cached"]
  end

  @tag options: [share_results: false]
  test "where results are not shared, not even asking helps" do
    run(@seeded, %{"cache" => true})
    refute submit!(@seeded, %{"cache" => true})["cached"]
  end

  test "a cache that dies is made anew with all it had, and no job is disturbed" do
    run(@seeded)
    id = submit!(%{"steps" => 20, "step_ms" => 20, "seed" => 1})["id"]
    pid = GenServer.whereis(Cache)
    ref = Process.monitor(pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^ref, :process, ^pid, :killed}
    eventually(fn -> GenServer.whereis(Cache) not in [nil, pid] end)
    await_ready()
    assert submit!(@seeded)["cached"]
    assert %{type: "completed"} = List.last(await_end(id))
  end

  test "callers at once, hits and jobs alike, are all answered with the same result" do
    tasks = for _ <- 1..50, do: Task.async(fn -> run(@seeded)["outputs"] end)
    assert [_one] = tasks |> Task.await_many(30_000) |> Enum.uniq()
    assert length(Jobs.list(fn _ -> true end)) == 50
  end

  defp run(params, request \\ %{}) do
    id = submit!(params, request)["id"]
    await_end(id)
    # What its process left behind is taken in.
    eventually(fn -> Koma.Job.Processes.whereis(id) == nil end)
    _state = :sys.get_state(Cache)
    {:ok, job} = Koma.job(id, %Caller{})
    job
  end

  defp submit(request) do
    Koma.submit(Map.merge(%{"task" => "toy.run", "params" => @seeded}, request), %Caller{})
  end
end
