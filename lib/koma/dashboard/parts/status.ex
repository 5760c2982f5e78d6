defmodule Koma.Dashboard.Parts.Status do
  @moduledoc "The line at the top: is all well, how much is going on, how long has the gateway been up."
  @behaviour Koma.Dashboard.Part

  require EEx

  alias Koma.Dashboard.Format
  alias Koma.{ModelNode, Queue, Socket}

  @queue_ms 500
  @mib 1024 * 1024

  EEx.function_from_file(
    :defp,
    :status,
    Path.join(__DIR__, "status.html.eex"),
    [:status],
    engine: Koma.Live.HTML,
    trim: true
  )

  @impl true
  def read(nil) do
    {uptime_ms, _since_last} = :erlang.statistics(:wall_clock)
    rows = Koma.ask(&ModelNode.Catalogue.rows/0, [])
    queues = Koma.ask(fn -> queues() end, [])

    %{
      missing: missing(Koma.ready()),
      waiting: Enum.sum(for {_family, depth} <- queues, do: depth.jobs),
      running: rows |> Enum.map(&if(&1.stats, do: &1.stats.running, else: 0)) |> Enum.sum(),
      slots: rows |> Enum.map(& &1.spec.slots) |> Enum.sum(),
      paused: for({family, %{paused: true}} <- queues, do: family),
      sockets: Registry.count(Socket.Handler.registry()),
      # In steps that do not change each time somebody looks.
      memory: 8 * @mib * round(:erlang.memory(:total) / (8 * @mib)),
      uptime: 60_000 * div(uptime_ms, 60_000)
    }
  end

  @impl true
  def html(status), do: status(status)

  defp missing(:ok), do: []
  defp missing({:error, missing}), do: Enum.map(missing, & &1["node"])

  defp queues do
    for family <- Enum.sort(Queue.families()), do: {family, Queue.depth(family, @queue_ms)}
  end
end
