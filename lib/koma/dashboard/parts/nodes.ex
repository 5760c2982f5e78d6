defmodule Koma.Dashboard.Parts.Nodes do
  @moduledoc "Peers and model nodes: what each serves, how busy and how well it is, and what may be done."
  @behaviour Koma.Dashboard.Part

  require EEx

  alias Koma.Cluster
  alias Koma.Dashboard.{Button, Format}
  alias Koma.Metrics.Table
  alias Koma.ModelNode.Catalogue

  @colours %{
    ready: "good",
    draining: "warn",
    drained: "warn",
    unloading: "warn",
    unloaded: "warn",
    hello: "busy",
    loading: "busy",
    restarting: "bad",
    waiting: "bad",
    killing: "bad"
  }
  @words %{
    ready: "ready",
    draining: "draining",
    drained: "drained",
    unloading: "unloading",
    unloaded: "no checkpoint",
    hello: "starting",
    loading: "loading",
    restarting: "restarting",
    waiting: "down",
    killing: "being killed"
  }

  EEx.function_from_file(
    :defp,
    :nodes,
    Path.join(__DIR__, "nodes.html.eex"),
    [:peers, :nodes],
    engine: Koma.Live.HTML,
    trim: true
  )

  @impl true
  def read(nil) do
    restarts = restarts()
    rows = Catalogue.rows() ++ Enum.sort_by(Cluster.rows(), & &1.spec.name)
    %{peers: peers(), nodes: Enum.map(rows, &read_row(&1, restarts))}
  end

  @impl true
  def html(%{peers: peers, nodes: nodes}), do: nodes(peers, nodes)

  # This one first.
  defp peers, do: Enum.map([node() | Enum.sort(Cluster.peers())], &Atom.to_string/1)

  defp peer("nonode@nohost"), do: "this one, in no cluster"
  defp peer(name), do: name

  defp read_row(%Catalogue.Row{spec: spec, ready: ready} = row, restarts) do
    Map.merge(stats(row.stats), %{
      name: spec.name,
      family: spec.family,
      checkpoint: spec.checkpoint,
      digest: ready && ready.checkpoint_digest,
      device: if(ready, do: "#{ready.device} · #{ready.dtype}", else: spec.device),
      phase: phase(row),
      next: next(row.order),
      slots: spec.slots,
      restarts: restarts[[spec.family, spec.name]] || if(row.stats, do: 0),
      error: row.last_error
    })
  end

  # Those of other peers tell their numbers there.
  defp stats(nil), do: %{running: nil, batch: nil, step_ms: nil, memory: nil, device_memory: 0}

  defp stats(stats) do
    %{
      running: stats.running,
      batch: stats.last_batch,
      step_ms: stats.step_ms,
      memory: stats.memory_bytes,
      device_memory: stats.device_memory_bytes
    }
  end

  # On its way back from a death: not well before it has arrived.
  defp phase(%Catalogue.Row{phase: phase, failures: failures, order: order})
       when phase in [:hello, :loading] and failures > 0 and order in [nil, :drain],
       do: :restarting

  defp phase(%Catalogue.Row{phase: phase}), do: phase

  # The same counter as in /metrics.
  defp restarts do
    Table.read() |> Map.get(:koma_model_node_restarts_total, []) |> Map.new()
  end

  defp next({:load, checkpoint}), do: "then loads #{checkpoint}"
  defp next(:restart), do: "then restarts"
  defp next(:unload), do: "then unloads"
  defp next(_none), do: nil

  defp colour(phase), do: Map.fetch!(@colours, phase)
  defp word(phase), do: Map.fetch!(@words, phase)

  defp buttons(node) do
    held? = node.phase in [:draining, :drained]
    up? = node.phase in [:ready, :draining, :drained]
    loads? = up? or node.phase == :unloaded

    [
      if(held?, do: Button.ask("resume", node.name, "Resume", true)),
      if(not held?, do: Button.ask("drain", node.name, "Drain", up?)),
      Button.ask("restart", node.name, "Restart", node.phase not in [:killing, :unloading]),
      Button.ask("load", node.name, "Load…", loads?),
      Button.ask("unload", node.name, "Unload", up?)
    ]
  end
end
