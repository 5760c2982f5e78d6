defmodule Koma.Crowd do
  @moduledoc """
  Many callers who submit again and again over WebSockets, in an operating system process of their own:
  what they measure is the server's time, not that of schedulers which they share with it.
  """

  import Koma.EdgeCase, only: [ask: 4, connect: 1, join!: 2]

  @slack_ms 60_000

  @type answer :: {accepted? :: boolean, us :: non_neg_integer}

  @doc "Starts the process in which they will be; it ends with the test."
  @spec start() :: pid
  def start do
    paths = Enum.flat_map(:code.get_path(), &['-pa', &1])
    # As clients do that wait for a server: without spinning.
    args = paths ++ ['+sbwt', 'none', '+sbwtdcpu', 'none', '+sbwtdio', 'none']
    options = %{connection: :standard_io, args: args, wait_boot: @slack_ms, shutdown: :halt}
    {:ok, control, _node} = :peer.start(options)
    ExUnit.Callbacks.on_exit(fn -> :peer.stop(control) end)
    {:ok, _apps} = :peer.call(control, Application, :ensure_all_started, [:gun], @slack_ms)
    control
  end

  @doc "For `ms`, each of `count` callers submits `request` about every `every_ms`; what they were answered."
  @spec submit(pid, :inet.port_number(), map, pos_integer, pos_integer, pos_integer) :: [answer]
  def submit(control, port, request, count, every_ms, ms) do
    arguments = [port, request, count, every_ms, ms]
    :peer.call(control, __MODULE__, :run, arguments, ms + @slack_ms)
  end

  @doc "Runs in that process."
  @spec run(:inet.port_number(), map, pos_integer, pos_integer, pos_integer) :: [answer]
  def run(port, request, count, every_ms, ms) do
    until = System.monotonic_time(:millisecond) + ms

    1..count
    |> Enum.map(fn _n -> Task.async(fn -> caller(port, request, every_ms, until) end) end)
    |> Task.await_many(:infinity)
    |> Enum.concat()
  end

  defp caller(port, request, every_ms, until) do
    socket = connect(port)
    join!(socket, "jobs")
    repeat(fn -> ask(socket, "jobs", "submit", request)["status"] == "ok" end, every_ms, until)
  end

  @doc "Calls `ask` about every `every_ms` until a monotonic time in ms, not in step with others."
  @spec repeat((() -> accepted? :: boolean), pos_integer, integer) :: [answer]
  def repeat(ask, every_ms, until), do: repeat(ask, every_ms, until, [])

  defp repeat(ask, every_ms, until, answers) do
    if System.monotonic_time(:millisecond) > until do
      answers
    else
      {us, accepted?} = :timer.tc(ask)
      Process.sleep(max(:rand.uniform(2 * every_ms) - div(us, 1_000), 0))
      repeat(ask, every_ms, until, [{accepted?, us} | answers])
    end
  end
end
