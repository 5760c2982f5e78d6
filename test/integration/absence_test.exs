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
