defmodule Koma.ConnectionsTest do
  @moduledoc "How many connections there may be, and who goes first when there are that many."
  use Koma.EdgeCase

  alias Koma.Access.Connections

  defp open(port) do
    {:ok, tcp} = :gen_tcp.connect('127.0.0.1', port, [:binary, active: false])
    tcp
  end

  # Waits for the answer, so that the connection is counted.
  defp ask(tcp, headers \\ "") do
    :ok = :gen_tcp.send(tcp, "GET /v1/jobs HTTP/1.1\r\nhost: localhost\r\n#{headers}\r\n")
    with {:ok, answer} <- :gen_tcp.recv(tcp, 0, 5_000), do: answer |> String.slice(9, 3)
  end

  defp with_key(id), do: "x-api-key: #{secret(id)}\r\n"

  defp closed?(tcp),
    do: :gen_tcp.recv(tcp, 0, 5_000) in [{:error, :closed}, {:error, :econnreset}]

  test "the guest that is there longest makes room; who has shown a key stays", %{dir: dir} do
    port = start_server(dir, keys: key("a"), max_connections: 4, max_connections_per_address: 4)
    known = open(port)
    assert ask(known, with_key("a")) == "200"
    [first, second, third] = for _ <- 1..3, do: tap(open(port), &("401" = ask(&1)))
    assert %{guests: 3, known: 1, most: 4} = Connections.count()
    late = open(port)
    assert ask(late, with_key("a")) == "200"
    assert closed?(first)
    assert ask(second) == "401"
    assert ask(known, with_key("a")) == "200"
    # A guest that shows a key late is no guest any more: the next one goes.
    assert ask(second, with_key("a")) == "200"
    assert ask(open(port)) == "401"
    assert closed?(third)
    assert ask(second, with_key("a")) == "200"
  end

  test "where everybody there has a key, who comes is refused, and let in once somebody goes", %{
    dir: dir
  } do
    port = start_server(dir, keys: key("a"), max_connections: 2)
    [one, two] = for _ <- 1..2, do: tap(open(port), &("200" = ask(&1, with_key("a"))))
    assert {:ok, "HTTP/1.1 503 " <> rest} = :gen_tcp.recv(open(port), 0, 5_000)
    assert rest =~ ~s("code":"unavailable") and rest =~ ~s("bound":2) and rest =~ "retry-after: 5"
    :gen_tcp.close(one)
    eventually(fn -> Connections.count().known == 1 end)
    assert ask(open(port), with_key("a")) == "200"
    assert ask(two, with_key("a")) == "200"
  end

  test "a WebSocket counts for as long as it is open", %{dir: dir} do
    port = start_server(dir, max_connections: 2, max_connections_per_address: 1)
    {gun, _stream} = connect(port)
    assert {:ok, "HTTP/1.1 503 " <> _rest} = :gen_tcp.recv(open(port), 0, 5_000)
    :gun.close(gun)
    eventually(fn -> Connections.count().known == 0 end)
    assert ask(open(port)) == "200"
  end

  test "guests have a bound of their own, and run behind all others; who shows a key does not", %{
    dir: dir
  } do
    port = start_server(dir, keys: key("a"), max_guests: 2)
    first = open(port)
    assert ask(first) == "401"
    assert priorities() == [:low]
    assert ask(first, with_key("a")) == "200"
    assert priorities() == [:normal]
    {gun, _stream} = connect(port, "vsn=2.0.0", [{"x-api-key", secret("a")}])
    assert priorities() == [:normal, :normal]
    [second, _third, _fourth] = for _ <- 1..3, do: tap(open(port), &("401" = ask(&1)))
    assert closed?(second)
    assert %{guests: 2, known: 2} = Connections.count()
    assert ask(first, with_key("a")) == "200"
    :gun.close(gun)
  end

  defp priorities do
    for connection <- :ranch.procs(Koma.HTTP.Listener, :connections) do
      {:priority, priority} = Process.info(connection, :priority)
      priority
    end
  end

  test "a guest's connection is let go of with all that it had", %{dir: dir} do
    port = start_server(dir, keys: key("a"), max_connections: 2)
    for _ <- 1..50, do: open(port)
    eventually(fn -> Connections.count().guests <= 2 end)
    assert ask(open(port), with_key("a")) == "200"
  end
end
