defmodule Koma.Soak.SocketStormTest do
  use Koma.EdgeCase

  @moduletag :soak
  @moduletag timeout: 600_000

  alias Koma.{Inventory, Storm}

  @run_ms 60_000
  @clients 50
  # Each client 20 a second: 1,000 in all, where the machine makes them.
  @every_ms 50

  test "1,000 connects and drops a second for a minute leave nothing behind; a job beside them is told whole",
       %{dir: dir} do
    # What has ended is forgotten at once, so that whatever is left in a table is a leak.
    port = start_server(dir, retention_jobs: 0)
    storm(port, 2_000)
    at_rest()
    {before, tables} = {Inventory.take(dir), Inventory.tables()}
    ms = Storm.scaled(@run_ms)

    beside =
      Task.async(fn ->
        await_end(submit!(%{"steps" => div(ms, 50), "step_ms" => 50})["id"], ms * 4)
      end)

    begun = System.monotonic_time(:millisecond)
    dropped = storm(port, ms)
    took = System.monotonic_time(:millisecond) - begun
    events = Task.await(beside, ms * 4)
    at_rest()

    IO.puts(
      "\n#{dropped} connects and drops in #{took} ms: #{div(dropped * 1000, took)} a second\n" <>
        "before #{inspect(before)}\nafter  #{inspect(Inventory.take(dir))}\n" <>
        "tables that grew: #{inspect(Inventory.grown(tables, Inventory.tables()))}"
    )

    assert Enum.map(events, & &1.seq) == Enum.to_list(1..length(events))
    assert %{type: "completed"} = List.last(events)
    assert Inventory.leaks(before, Inventory.take(dir)) == []
  end

  defp storm(port, ms) do
    until = System.monotonic_time(:millisecond) + ms

    1..@clients
    |> Enum.map(fn n -> Task.async(fn -> client(port, n, until, 0) end) end)
    |> Task.await_many(ms + 60_000)
    |> Enum.sum()
  end

  defp client(port, n, until, dropped) do
    now = System.monotonic_time(:millisecond)

    if now > until do
      dropped
    else
      drop(port, rem(dropped + n, 6))
      Process.sleep(max(@every_ms - (System.monotonic_time(:millisecond) - now), 0))
      client(port, n, until, dropped + 1)
    end
  end

  # Half-way through the handshake; open; with a topic, and with a job that nobody will follow: before and
  # after the server has answered.
  defp drop(port, 0) do
    {:ok, tcp} = :gen_tcp.connect('127.0.0.1', port, [:binary, active: false])
    :ok = :gen_tcp.send(tcp, "GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nhost: local")
    reset(tcp)
  end

  defp drop(port, how) do
    tcp = open_raw(port)
    if how > 1, do: push_raw(tcp, ["1", "1", "jobs", "phx_join", %{}])
    if how in [3, 5], do: push_raw(tcp, ["1", "2", "jobs", "submit", %{"task" => "toy.run"}])
    if how == 4, do: await_reply(tcp, "1")
    if how == 5, do: await_reply(tcp, "2")
    reset(tcp)
  end

  defp await_reply(tcp, ref, read \\ "") do
    if read =~ ~s("#{ref}","jobs","phx_reply") do
      :ok
    else
      {:ok, more} = :gen_tcp.recv(tcp, 0, 5_000)
      await_reply(tcp, ref, read <> more)
    end
  end

  # No goodbye, not even that of TCP: it leaves no port behind that waits.
  defp reset(tcp) do
    :ok = :inet.setopts(tcp, linger: {true, 0})
    :ok = :gen_tcp.close(tcp)
  end

  defp at_rest do
    eventually(fn -> sockets() == [] and channels() == [] end, 4_000)
    eventually(fn -> Koma.Job.Processes.all() == [] end, 4_000)
  end
end
