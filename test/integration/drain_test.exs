defmodule Koma.DrainTest do
  @moduledoc "A graceful stop: what SIGTERM does, without the signal."
  use Koma.EdgeCase

  # A client in a process of its own, as the test itself is busy with stopping.
  defp client(port, job, test) do
    Task.async(fn ->
      socket = connect(port)
      join!(socket, "jobs")
      join!(socket, "job:" <> job["id"])
      read_until(socket, &match?([_, _, _, "progress", %{"step" => 5}], &1))
      send(test, :running)
      {submit_until_refused(socket), read_until(socket, &match?({:down, _}, &1))}
    end)
  end

  defp submit_until_refused(socket) do
    push(socket, ["jjobs", "s", "jobs", "submit", %{"task" => "toy.run", "params" => %{}}])
    replied? = &match?([_, "s", "jobs", "phx_reply", _], &1)

    case socket |> read_until(replied?) |> List.last() do
      [_, _, _, _, %{"status" => "ok"}] -> submit_until_refused(socket)
      [_, _, _, _, %{"status" => "error", "response" => error}] -> error
    end
  end

  test "new work is refused, running work ends, and sockets are closed with 1012", %{dir: dir} do
    port = start_server(dir, drain_ms: 10_000)
    raw = open_raw(port)
    job = submit!(%{"steps" => 100, "step_ms" => 10})
    client = client(port, job, self())
    assert_receive :running, 10_000
    assert stop_edge() == :ok

    {refusal, frames} = Task.await(client)
    assert %{"code" => "draining"} = refusal
    assert {:ok, restart_frame()} == :gen_tcp.recv(raw, 0, 1_000)
    assert Enum.any?(frames, &match?([_, _, _, "completed", _], &1))
  end

  test "work that does not end in time is handed back and goes on after the next start", %{
    dir: dir
  } do
    port = start_server(dir, drain_ms: 200)
    raw = open_raw(port)
    job = submit!(%{"steps" => 300, "step_ms" => 10})
    await_step(job["id"])
    assert stop_edge() == :ok
    assert {:ok, restart_frame()} == :gen_tcp.recv(raw, 0, 1_000)
    stop_core()

    start_server(dir)
    events = await_end(job["id"], 60_000)
    assert %{type: "completed"} = List.last(events)
    assert Enum.map(events, & &1.seq) == Enum.to_list(1..length(events))
  end

  test "a listener that crashes comes back, and nothing is drained", %{dir: dir} do
    start_server(dir)

    listener = fn ->
      Enum.find_value(Supervisor.which_children(Koma.Edge), fn {id, pid, _, _} ->
        if id == Koma.HTTP.Listener, do: pid
      end)
    end

    before = listener.()
    Process.exit(before, :kill)
    assert eventually(fn -> is_pid(listener.()) and listener.() != before end)
    port = Koma.HTTP.Listener.port()
    socket = connect(port)
    join!(socket, "jobs")
    assert %{"status" => "ok"} = ask(socket, "jobs", "submit", %{"task" => "toy.run"})
  end

  test "the port file holds the port once the server listens", %{dir: dir} do
    path = Path.join(dir, "port")
    port = start_server(dir, port_file: path)
    assert File.read!(path) == Integer.to_string(port)
  end
end
