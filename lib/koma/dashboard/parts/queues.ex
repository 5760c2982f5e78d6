defmodule Koma.Dashboard.Parts.Queues do
  @moduledoc "The queues: how many wait, how long, whose they are; pause and resume."
  @behaviour Koma.Dashboard.Part

  require EEx

  alias Koma.Dashboard.{Button, Format}
  alias Koma.Queue

  @queue_ms 500

  EEx.function_from_file(
    :defp,
    :queues,
    Path.join(__DIR__, "queues.html.eex"),
    [:queues],
    engine: Koma.Live.HTML,
    trim: true
  )

  @impl true
  def read(nil), do: Enum.map(Enum.sort(Queue.families()), &read_queue/1)

  @impl true
  def html(queues), do: queues(queues)

  defp read_queue(family) do
    depth = Queue.depth(family, @queue_ms)
    keys = Enum.sort_by(depth.keys, fn {key, jobs} -> {-jobs, key} end)
    # In whole seconds: it counts up in front of somebody.
    %{depth | oldest_ms: 1000 * div(depth.oldest_ms, 1000), keys: keys}
    |> Map.put(:family, family)
  end

  defp button(%{paused: true, family: family}), do: Button.ask("go_on", family, "Resume", true)
  defp button(%{family: family}), do: Button.ask("pause", family, "Pause", true)
end
