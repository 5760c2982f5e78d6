defmodule Koma.Dashboard.Parts.Status do
  @moduledoc "The line at the top: is all well, how much is going on on all peers, how long has the gateway been up."
  @behaviour Koma.Dashboard.Part

  require EEx

  alias Koma.{Cluster, ModelNode, Options, Provenance}
  alias Koma.Channel.Sockets
  alias Koma.Dashboard.{Format, Peers}

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
    rows = Koma.ask(&ModelNode.Catalogue.rows/0, []) ++ Cluster.rows()

    here = Koma.ask(&here/0, %{nodes: %{}, queues: []})
    all = [here | Map.values(Peers.latest())]
    numbers = Enum.flat_map(all, &Map.values(&1.nodes))

    %{
      missing: missing(Koma.ready()),
      waiting: Enum.sum(for %{queues: queues} <- all, %{jobs: jobs} <- queues, do: jobs),
      running: Enum.sum(for %{running: running} <- numbers, running != nil, do: running),
      slots: rows |> Enum.map(& &1.spec.slots) |> Enum.sum(),
      paused: for(%{paused: true, family: family} <- here.queues, do: family),
      unmarked: Provenance.off(Options.get()),
      sockets: Sockets.count(),
      # In steps that do not change each time somebody looks.
      memory: 8 * @mib * round(:erlang.memory(:total) / (8 * @mib)),
      uptime: 60_000 * div(uptime_ms, 60_000)
    }
  end

  @impl true
  def html(status), do: status(status)

  defp here, do: %{nodes: Peers.nodes(), queues: Peers.queues()}

  defp missing(:ok), do: []
  defp missing({:error, missing}), do: Enum.map(missing, & &1["node"])
end
