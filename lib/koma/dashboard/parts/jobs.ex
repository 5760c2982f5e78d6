defmodule Koma.Dashboard.Parts.Jobs do
  @moduledoc """
  The jobs that a filter lets through: those that run, those that wait, then those that ended, the
  latest first in each. Read by id, never by looking through the whole store.
  """
  @behaviour Koma.Dashboard.Part

  require EEx

  alias Koma.Dashboard.{Button, Filter, Format}
  alias Koma.Job.Lifecycle
  alias Koma.Store

  @max_live 500
  @max_ended 100
  # Of those that ended so many are looked at.
  @looked_at 300
  @fields [
    :id,
    :task,
    :model,
    :key,
    :state,
    :attempt,
    :node,
    :priority,
    :created_at,
    :finished_at,
    :error,
    :cached,
    :seq
  ]
  @colours %{
    "running" => "busy",
    "completed" => "good",
    "failed" => "bad",
    "expired" => "bad",
    "retrying" => "warn"
  }

  EEx.function_from_file(
    :defp,
    :jobs,
    Path.join(__DIR__, "jobs.html.eex"),
    [:filter, :live, :ended, :total],
    engine: Koma.Live.HTML,
    trim: true
  )

  @impl true
  def read(%Filter{} = filter) do
    now = System.system_time(:millisecond)
    live = live(filter)

    %{
      filter: filter,
      total: length(live),
      live: live |> Enum.take(@max_live) |> Enum.map(&Map.merge(&1, progress(&1, now))),
      ended: ended(filter)
    }
  end

  @impl true
  def html(%{filter: filter, live: live, ended: ended, total: total}) do
    jobs(filter, live, ended, total)
  end

  @doc "How a state looks."
  @spec colour(Lifecycle.state()) :: String.t()
  def colour(state), do: Map.get(@colours, state, "quiet")

  defp live(filter) do
    if Enum.all?(Filter.listed(filter), &Lifecycle.terminal?/1) do
      []
    else
      for {id, _pid} <- Koma.Job.Processes.all(), job <- read_job(id, filter) do
        job
      end
      |> Enum.reject(& &1.finished_at)
      |> Enum.uniq_by(& &1.id)
      |> Enum.sort_by(&{&1.state == "running", &1.created_at, &1.id}, :desc)
    end
  end

  defp ended(filter) do
    if Enum.any?(Filter.listed(filter), &Lifecycle.terminal?/1) do
      Store.Jobs.finished()
      |> Stream.take(@looked_at)
      |> Stream.flat_map(&read_job(&1, filter))
      |> Enum.take(@max_ended)
    else
      []
    end
  end

  defp read_job(id, filter) do
    with {:ok, job} <- Store.Jobs.fields(id, @fields), true <- Filter.lists?(filter, job) do
      [job]
    else
      _gone_or_not_listed -> []
    end
  end

  # In whole seconds, so that a line changes once a second at most for that.
  defp progress(job, now) do
    %{age_ms: 1000 * max(div(now - job.created_at, 1000), 0), doing: doing(job)}
  end

  defp doing(job) do
    case Store.Jobs.last_event(job.id, job.seq) do
      %{type: "progress", data: data} ->
        {:steps, data["step"], data["total"]}

      %{type: "token", data: data} ->
        {:text, "#{data["index"] + 1} tokens"}

      %{type: "queued", data: %{"paused" => true} = data} ->
        {:text, "place #{data["position"]}, paused"}

      %{type: "queued", data: data} ->
        {:text, "place #{data["position"]}"}

      _other ->
        nil
    end
  end
end
