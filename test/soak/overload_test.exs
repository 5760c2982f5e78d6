defmodule Koma.Soak.OverloadTest do
  use Koma.EdgeCase

  @moduletag :soak
  @moduletag timeout: 600_000

  @run_ms 20_000
  @callers 32

  # 16 slots, 50 ms each: 320 jobs a second at best; the callers ask ten times as often.
  test "ten times more than can be served: how long refusals take, and what memory does", %{
    dir: dir
  } do
    port = start_server(dir, models: [toy(%{count: 2, slots: 8})], retention_jobs: 1_000)
    _warm = measure(port, 3_000)
    :erlang.garbage_collect()
    before = :erlang.memory(:total)
    answers = measure(port, @run_ms)
    by = Enum.group_by(answers, fn {how, answer, _us} -> {how, answer} end, &elem(&1, 2))
    grown = div(:erlang.memory(:total) - before, 1_000_000)

    IO.puts("\n#{length(answers)} submits in #{@run_ms} ms; memory grew by #{grown} MB")
    for {{how, answer}, us} <- Enum.sort(by), do: IO.puts("#{how} #{answer}: #{quantiles(us)}")
    assert length(by[{:façade, :refused}]) > length(by[{:façade, :accepted}])
    assert grown < 100
  end

  defp measure(port, ms) do
    until = System.monotonic_time(:millisecond) + ms

    1..@callers
    |> Enum.map(fn n -> Task.async(fn -> caller(port, n, until) end) end)
    |> Task.await_many(ms + 60_000)
    |> List.flatten()
  end

  # Half of them over sockets, to the last byte; half ask the façade.
  defp caller(port, n, until) when rem(n, 2) == 0 do
    socket = connect(port)
    join!(socket, "jobs")
    ask = fn request -> ask(socket, "jobs", "submit", request)["status"] == "ok" end
    loop(:socket, ask, until)
  end

  defp caller(_port, n, until) do
    caller = %Caller{key: "key#{rem(n, 4)}"}
    loop(:façade, &match?({:ok, _job}, Koma.submit(&1, caller)), until)
  end

  defp loop(how, ask, until) do
    if System.monotonic_time(:millisecond) > until do
      []
    else
      params = %{"steps" => 5, "step_ms" => 10}
      request = %{"task" => "toy.run", "params" => params, "on_disconnect" => "keep"}
      {us, accepted?} = :timer.tc(fn -> ask.(request) end)

      receive do
      after
        max(10 - div(us, 1_000), 0) -> :ok
      end

      [{how, if(accepted?, do: :accepted, else: :refused), us} | loop(how, ask, until)]
    end
  end

  defp quantiles(us) do
    sorted = Enum.sort(us)
    at = fn share -> Enum.at(sorted, trunc(share * (length(sorted) - 1))) / 1_000 end

    "#{length(us)}, ms: median #{at.(0.5)}, p99 #{at.(0.99)}, p99.9 #{at.(0.999)}, max #{at.(1.0)}"
  end
end
