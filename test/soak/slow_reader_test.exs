defmodule Koma.Soak.SlowReaderTest do
  use Koma.EdgeCase

  @moduletag :soak
  @moduletag timeout: 600_000

  alias Koma.{Inventory, Storm}

  @readers 100
  @jobs 10
  @preview_bytes 300_000
  @steps 100
  # Of each reader: the previews that are under way and the latest, in base64; and events.
  @bytes_each 4_000_000

  test "100 clients that read nothing cost bounded memory and miss no event; who reads beside them waits no longer",
       %{dir: dir} do
    port = start_server(dir, models: [toy(%{count: 2, slots: 8})])
    alone = port |> reads() |> delays()
    forget_all()
    before = Inventory.take(dir)
    memory = memory()

    ids =
      for n <- 1..@jobs do
        params = %{"steps" => @steps, "step_ms" => 50, "preview_bytes" => @preview_bytes}

        submit!(params, %{"params" => Map.put(params, "seed", n), "on_disconnect" => "keep"})[
          "id"
        ]
      end

    slow = for n <- 1..Storm.scaled(@readers), do: reader(port, Enum.at(ids, rem(n, @jobs)))
    beside = port |> reads() |> delays()
    for id <- ids, do: eventually(fn -> ended?(id) end, 4_000)
    each = div(memory() - memory, length(slow))
    for {tcp, id} <- slow, do: assert(numbers(tcp, id) == Enum.to_list(1..last(id)))

    IO.puts(
      "\n#{length(slow)} readers; #{each} bytes for each; delay of an event in ms, " <>
        "median and p99: #{inspect(alone)} alone, #{inspect(beside)} beside them"
    )

    assert each < @bytes_each
    # Who reads is told at once; the bound is that of a machine that is busy with other things.
    assert [median, _p99] = beside
    assert median < 500
    eventually(fn -> sockets() == [] and channels() == [] end, 4_000)
    forget_all()
    assert Inventory.leaks(before, Inventory.take(dir)) == []
  end

  defp reader(port, id) do
    tcp = open_raw(port)
    push_raw(tcp, ["1", "1", "job:" <> id, "phx_join", %{}])
    {tcp, id}
  end

  # How long after it happened each event of a job of its own comes to a client that reads.
  defp reads(port) do
    job = submit!(%{"steps" => 50, "step_ms" => 20, "tokens" => true})
    socket = {gun, _stream} = connect(port)
    join!(socket, "job:" <> job["id"])
    delays = delays(socket, [])
    :ok = :gun.close(gun)
    delays
  end

  defp delays(socket, seen) do
    [_, _, _, type, payload] = next(socket, 30_000)
    seen = if at = payload["at"], do: [System.system_time(:millisecond) - at | seen], else: seen
    if type == "completed", do: seen, else: delays(socket, seen)
  end

  defp delays(seen) do
    sorted = Enum.sort(seen)
    for share <- [0.5, 0.99], do: Enum.at(sorted, trunc(share * (length(sorted) - 1)))
  end

  defp forget_all do
    for %{"id" => id} <- Koma.jobs(%Caller{}, %{}), do: :ok = Koma.forget(id, %Caller{})
  end

  defp ended?(id), do: match?({:ok, %{"state" => "completed"}}, Koma.job(id, %Caller{}))
  defp last(id), do: id |> Koma.Store.Jobs.events(0) |> List.last() |> Map.fetch!(:seq)
  defp memory, do: Enum.sum(for kind <- [:binary, :processes], do: :erlang.memory(kind))

  # Reads on, frame by frame, to the end of the job; then leaves.
  defp numbers(tcp, id) do
    {:ok, <<_fin_and_text, 0::1, length::7>>} = :gen_tcp.recv(tcp, 2, 10_000)
    [_, _, topic, type, payload] = tcp |> body(length) |> Koma.JSON.decode() |> elem(1)
    number = if topic == "job:" <> id and payload["seq"], do: [payload["seq"]], else: []

    if type == "completed" do
      :ok = :gen_tcp.close(tcp)
      number
    else
      number ++ numbers(tcp, id)
    end
  end

  defp body(tcp, 126), do: sized(tcp, 2)
  defp body(tcp, 127), do: sized(tcp, 8)
  defp body(tcp, length), do: received(tcp, length)

  defp sized(tcp, bytes), do: received(tcp, tcp |> received(bytes) |> :binary.decode_unsigned())

  defp received(tcp, length) do
    {:ok, bytes} = :gen_tcp.recv(tcp, length, 10_000)
    bytes
  end
end
