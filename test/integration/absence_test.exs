defmodule Koma.AbsenceTest do
  @moduledoc "Who wants a job, seen from the outside: sockets that close, requests that end."
  use Koma.EdgeCase

  @json [{"content-type", "application/json"}]
  @long %{"steps" => 10_000, "step_ms" => 20}
  @short %{"steps" => 20, "step_ms" => 20}

  setup %{dir: dir}, do: {:ok, port: start_server(dir, absence_ms: 150)}

  test "a job from a socket that closes is cancelled after the grace period", %{port: port} do
    socket = connect(port)
    id = submit(socket, @long)
    close(socket)
    assert ended(id) == "cancelled"
  end

  test "a socket that comes back and joins the topic in time keeps its job", %{port: port} do
    first = connect(port)
    id = submit(first, @short)
    close(first)
    second = connect(port)
    join!(second, "job:" <> id)
    read_until(second, &match?([_, _, _, "completed", _], &1))
  end

  test "a socket that leaves the topic jobs, but stays, keeps its job", %{port: port} do
    socket = connect(port)
    id = submit(socket, @short)
    push(socket, ["jjobs", "l", "jobs", "phx_leave", %{}])
    read_until(socket, &match?([_, _, "jobs", "phx_close", _], &1))
    assert ended(id) == "completed"
    close(socket)
  end

  test "a socket that only follows keeps the job of one that has gone", %{port: port} do
    [first, second] = [connect(port), connect(port)]
    id = submit(first, @short)
    join!(second, "job:" <> id)
    close(first)
    read_until(second, &match?([_, _, _, "completed", _], &1))
  end

  test "with keep a job from a socket goes on without it", %{port: port} do
    socket = connect(port)
    id = submit(socket, @short, %{"on_disconnect" => "keep"})
    close(socket)
    assert ended(id) == "completed"
  end

  test "a job over HTTP goes on, since its client may poll; with cancel it must be followed", %{
    port: port
  } do
    kept = post(port, %{"task" => "toy.run", "params" => @short})
    left = post(port, %{"task" => "toy.run", "params" => @long, "on_disconnect" => "cancel"})
    assert ended(kept) == "completed"
    assert ended(left) == "cancelled"
  end

  test "a pipeline from a socket that closes is cancelled with the job of its stage; one that somebody follows goes on",
       %{port: port} do
    [first, second] = [connect(port), connect(port)]
    [left, followed] = for _ <- 1..2, do: submit_pipeline(first, @long)
    join!(second, "pipeline:" <> followed)
    eventually(fn -> stage(left)["job"] end)
    close(first)
    assert ended(stage(left)["job"]) == "cancelled"
    assert {:ok, %{"state" => "cancelled", "error" => error}} = Koma.Pipeline.get(left, %Caller{})
    assert error["message"] == "Nobody followed the pipeline for 150 ms."

    # So is one that is joined and left.
    assert stage(followed)["state"] in ["waiting", "running"]
    push(second, ["jpipeline:" <> followed, "l", "pipeline:" <> followed, "phx_leave", %{}])
    eventually(fn -> match?({:ok, %{"state" => "cancelled"}}, pipeline(followed)) end)
  end

  test "a pipeline of HTTP goes on, as does one with keep; with cancel it must be followed", %{
    port: port
  } do
    request = %{"stages" => stages(@short)}
    {202, _headers, _body} = kept = post_pipeline(port, request)
    left = post_pipeline(port, Map.put(request, "on_disconnect", "cancel"))
    socket = connect(port)
    other = submit_pipeline(socket, @short, %{"on_disconnect" => "keep"})
    close(socket)
    states = for id <- [json(kept)["id"], json(left)["id"], other], do: state_at_the_end(id)
    assert states == ~w(completed cancelled completed)

    assert {400, _headers, _body} =
             answer = post_pipeline(port, Map.put(request, "on_disconnect", "x"))

    assert json(answer)["error"]["field"] == "on_disconnect"
  end

  test "after a restart a pipeline is cancelled only once somebody has come back and gone again",
       %{
         dir: dir,
         port: port
       } do
    id = submit_pipeline(connect(port), @long)
    eventually(fn -> stage(id)["job"] end)
    stop_edge()
    stop_core()
    port = start_server(dir, absence_ms: 150)
    Process.sleep(400)
    assert {:ok, %{"state" => "running"}} = pipeline(id)
    socket = connect(port)
    join!(socket, "pipeline:" <> id)
    close(socket)
    assert state_at_the_end(id) == "cancelled"
  end

  defp stages(params), do: [%{"name" => "one", "task" => "toy.run", "params" => params}]

  defp submit_pipeline(socket, params, more \\ %{}) do
    join!(socket, "jobs")
    request = Map.put(more, "stages", stages(params))
    assert %{"status" => "ok", "response" => it} = ask(socket, "jobs", "submit_pipeline", request)
    it["id"]
  end

  defp post_pipeline(port, request) do
    http(port, "POST", "/v1/pipelines", @json, Koma.JSON.encode!(request))
  end

  defp pipeline(id), do: Koma.Pipeline.get(id, %Caller{})

  defp stage(id) do
    {:ok, %{"stages" => [stage]}} = pipeline(id)
    stage
  end

  defp state_at_the_end(id) do
    eventually(fn -> not match?({:ok, %{"state" => "running"}}, pipeline(id)) end)
    {:ok, %{"state" => state}} = pipeline(id)
    state
  end

  defp submit(socket, params, more \\ %{}) do
    join!(socket, "jobs")
    request = Map.merge(%{"task" => "toy.run", "params" => params}, more)
    assert %{"status" => "ok", "response" => job} = ask(socket, "jobs", "submit", request)
    job["id"]
  end

  defp post(port, request) do
    {202, _headers, _body} =
      answer = http(port, "POST", "/v1/jobs", @json, Koma.JSON.encode!(request))

    json(answer)["id"]
  end

  defp close({gun, _stream}), do: :ok = :gun.close(gun)

  defp ended(id) do
    eventually(fn ->
      {:ok, job} = Koma.job(id, %Caller{})
      Koma.Job.Lifecycle.terminal?(job["state"])
    end)

    {:ok, job} = Koma.job(id, %Caller{})
    job["state"]
  end
end
