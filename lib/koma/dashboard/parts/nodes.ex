defmodule Koma.Dashboard.Parts.Nodes do
  @moduledoc "Peers and model nodes: what each serves, how busy and how well it is, and what may be done."
  @behaviour Koma.Dashboard.Part

  require EEx

  alias Koma.Cluster
  alias Koma.Dashboard.{Button, Format, Peers}
  alias Koma.ModelNode.Catalogue

  # An answer that is older is told to be.
  @old_ms 4_000
  @untold %{running: nil, batch: nil, step_ms: nil, memory: nil, device_memory: 0, restarts: nil}

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
    reports = Peers.latest()
    numbers = Map.merge(Peers.nodes(), elsewhere(reports))
    rows = Catalogue.rows() ++ Enum.sort_by(Cluster.rows(), & &1.spec.name)
    nodes = Enum.map(rows, &read_row(&1, Map.get(numbers, &1.spec.name, @untold)))
    %{peers: [here() | Enum.map(Cluster.known(), &peer(&1, reports))], nodes: nodes}
  end

  defp elsewhere(reports) do
    for {peer, report} <- reports, {name, numbers} <- report.nodes, into: %{} do
      {Cluster.Peers.remote_name(name, peer), numbers}
    end
  end

  @impl true
  def html(%{peers: peers, nodes: nodes}), do: nodes(peers, nodes)

  defp here, do: %{name: Atom.to_string(node()), state: :here, told: nil}

  # Numbers of a peer are those of its latest answer, and of no use once it is gone.
  defp peer({peer, connected?}, reports) do
    report = if connected?, do: reports[peer]
    %{name: Atom.to_string(peer), state: state(connected?, report), told: told(report)}
  end

  defp state(false, _report), do: :away
  defp state(true, nil), do: :untold

  defp state(true, %{at: at}) do
    age_ms = System.monotonic_time(:millisecond) - at
    if age_ms < @old_ms, do: :well, else: {:silent, div(age_ms, 1000)}
  end

  defp told(nil), do: nil

  defp told(report) do
    waiting = report.queues |> Enum.map(& &1.jobs) |> Enum.sum()
    "#{report.jobs} jobs of its own, #{waiting} of them waiting"
  end

  defp peer_name("nonode@nohost"), do: "this one, in no cluster"
  defp peer_name(name), do: name

  defp peer_badge(:here), do: {"quiet", "this one"}
  defp peer_badge(:untold), do: {"quiet", "connected"}
  defp peer_badge(:well), do: {"good", "connected"}
  defp peer_badge({:silent, seconds}), do: {"warn", "silent for #{seconds} s"}
  defp peer_badge(:away), do: {"bad", "not connected"}

  defp read_row(%Catalogue.Row{spec: spec, ready: ready} = row, numbers) do
    Map.merge(numbers, %{
      name: spec.name,
      family: spec.family,
      checkpoint: spec.checkpoint,
      digest: ready && ready.checkpoint_digest,
      device: if(ready, do: "#{ready.device} · #{ready.dtype}", else: spec.device),
      phase: phase(row),
      next: next(row.order),
      slots: spec.slots,
      error: row.last_error
    })
  end

  # On its way back from a death: not well before it has arrived.
  defp phase(%Catalogue.Row{phase: phase, failures: failures, order: order})
       when phase in [:hello, :loading] and failures > 0 and order in [nil, :drain],
       do: :restarting

  defp phase(%Catalogue.Row{phase: phase}), do: phase

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
