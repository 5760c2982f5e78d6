defmodule Koma.Dashboard.Parts.Queues do
  @moduledoc "The queues, those of other gateways behind: how many wait, how long, whose they are; pause and resume."
  @behaviour Koma.Dashboard.Part

  require EEx

  alias Koma.Cluster
  alias Koma.Dashboard.{Button, Format, Peers}

  EEx.function_from_file(
    :defp,
    :queues,
    Path.join(__DIR__, "queues.html.eex"),
    [:queues],
    engine: Koma.Live.HTML,
    trim: true
  )

  @impl true
  def read(nil) do
    gateways = Enum.sort(Cluster.gateways())
    reports = Map.take(Peers.latest(), gateways)
    elsewhere = for {peer, %{queues: queues}} <- reports, queue <- queues, do: named(queue, peer)
    for(queue <- Peers.queues(), do: Map.put(queue, :name, queue.family)) ++ elsewhere
  end

  defp named(queue, peer),
    do: Map.put(queue, :name, Cluster.Peers.remote_name(queue.family, peer))

  @impl true
  def html(queues), do: queues(queues)

  defp button(%{paused: true, name: name}), do: Button.ask("go_on", name, "Resume", true)
  defp button(%{name: name}), do: Button.ask("pause", name, "Pause", true)
end
