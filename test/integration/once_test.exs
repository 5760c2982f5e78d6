defmodule Koma.OnceTest do
  @moduledoc "Requests with an idempotency key, over HTTP, over the socket and beside each other."
  use Koma.EdgeCase

  alias Koma.OtherBeam

  @json [{"content-type", "application/json"}]

  defp post(port, path, body, key) do
    headers = if key, do: [{"idempotency-key", key} | @json], else: @json
    http(port, "POST", path, headers, Koma.JSON.encode!(body))
  end

  defp job(seed), do: %{"task" => "toy.run", "params" => %{"steps" => 2, "seed" => seed}}

  test "the same request with the same key is the same job, over HTTP and over the socket", %{
    dir: dir
  } do
    port = start_server(dir)
    {202, _headers, _body} = first = post(port, "/v1/jobs", job(1), "order-1")
    %{"id" => id} = json(first)
    # Also when the job has ended, and where the key is quoted as the draft has it.
    _events = await_end(id)

    assert %{"id" => ^id, "state" => "completed"} =
             json(post(port, "/v1/jobs", job(1), ~s("order-1")))

    socket = connect(port)
    join!(socket, "jobs")
    request = Map.merge(job(1), %{"idempotency_key" => "order-1", "on_disconnect" => "keep"})

    assert %{"status" => "ok", "response" => %{"id" => ^id}} =
             ask(socket, "jobs", "submit", request)

    assert [%{"id" => ^id}] = Koma.jobs(%Caller{}, %{})
  end

  test "another request with the same key is a conflict that clients do not try again", %{
    dir: dir
  } do
    port = start_server(dir)
    {202, _headers, _body} = post(port, "/v1/jobs", job(1), "order-1")
    {409, headers, _body} = refused = post(port, "/v1/jobs", job(2), "order-1")
    assert %{"error" => %{"code" => "conflict", "field" => "idempotency_key"}} = json(refused)
    assert headers["x-should-retry"] == "false"
    assert [_one] = Koma.jobs(%Caller{}, %{})
  end

  test "the key of one caller is not the key of another, and without one each request is its own",
       %{
         dir: dir
       } do
    start_core(dir)
    request = Map.put(job(1), "idempotency_key", "order-1")
    {:ok, %{"id" => mine}} = Koma.submit(request, %Caller{key: "a"})
    {:ok, %{"id" => theirs}} = Koma.submit(request, %Caller{key: "b"})
    {:ok, %{"id" => ^mine}} = Koma.submit(request, %Caller{key: "a"})
    assert mine != theirs
    none = Map.put(request, "idempotency_key", nil)
    ids = for _ <- 1..2, {:ok, job} = Koma.submit(none, %Caller{}), do: job["id"]
    assert ids == Enum.uniq(ids)
  end

  test "many at the same time make one job", %{dir: dir} do
    start_core(dir)
    request = Map.put(job(1), "idempotency_key", "order-1")

    ids =
      1..50
      |> Task.async_stream(fn _ -> Koma.submit(request, %Caller{}) end, max_concurrency: 50)
      |> Enum.map(fn {:ok, {:ok, job}} -> job["id"] end)

    assert [_one] = Enum.uniq(ids)
    assert [_one] = Koma.jobs(%Caller{}, %{})
  end

  test "a key that is empty, too long or no text is refused with the bound", %{dir: dir} do
    port = start_server(dir)

    for {key, code} <- [
          {"", "out_of_bounds"},
          {String.duplicate("k", 256), "out_of_bounds"},
          {7, "wrong_type"}
        ] do
      assert {:error, %{code: ^code, field: "idempotency_key"}} =
               Koma.submit(Map.put(job(1), "idempotency_key", key), %Caller{})
    end

    assert {400, _headers, _body} = post(port, "/v1/jobs", job(1), String.duplicate("k", 256))
    assert Koma.jobs(%Caller{}, %{}) == []
  end

  test "a refused request leaves its key free", %{dir: dir} do
    start_core(dir)
    wrong = %{"task" => "toy.run", "params" => %{"steps" => 0}, "idempotency_key" => "order-1"}
    assert {:error, %{code: "out_of_bounds"}} = Koma.submit(wrong, %Caller{})
    assert {:ok, _job} = Koma.submit(Map.put(job(1), "idempotency_key", "order-1"), %Caller{})
  end

  test "a pipeline is made once for its key", %{dir: dir} do
    port = start_server(dir)

    pipeline = fn steps ->
      %{"stages" => [%{"name" => "a", "task" => "toy.run", "params" => %{"steps" => steps}}]}
    end

    {202, _headers, _body} = first = post(port, "/v1/pipelines", pipeline.(1), "order-1")
    %{"id" => id} = json(first)
    _events = await_pipeline(id)

    assert %{"id" => ^id, "state" => "completed"} =
             json(post(port, "/v1/pipelines", pipeline.(1), "order-1"))

    assert {409, _headers, _body} = post(port, "/v1/pipelines", pipeline.(2), "order-1")
    assert %{"id" => another} = json(post(port, "/v1/pipelines", pipeline.(1), "order-2"))
    assert another != id
  end

  test "a request that is sent again after a SIGKILL of the server finds its job, and one result",
       %{
         dir: dir
       } do
    request = %{"idempotency_key" => "order-1"}
    params = %{"steps" => 40, "step_ms" => 20, "seed" => 1}

    beam =
      OtherBeam.start(dir, [], """
      job = Koma.CoreCase.submit!(#{inspect(params)}, #{inspect(request)})
      IO.puts("IDS " <> job["id"])
      """)

    [id] = OtherBeam.ids(beam)
    OtherBeam.kill(beam)
    start_core(dir, wait: false)
    assert %{"id" => ^id} = submit!(params, request)
    assert %{type: "completed"} = List.last(await_end(id))
    assert %{"id" => ^id, "state" => "completed"} = submit!(params, request)
    assert [_one] = Koma.jobs(%Caller{}, %{})
  end
end
