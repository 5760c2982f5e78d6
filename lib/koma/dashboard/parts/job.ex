defmodule Koma.Dashboard.Parts.Job do
  @moduledoc """
  One job with its whole history: the parameters, the events, the outputs or the error. While it lives,
  or where there are very many, rows of events of which one says what all say (`progress`, `token`) are
  told together.

  Of a job of another key than the operator's own its texts are not shown, only how long they are: who runs
  the server need not read what people ask it.
  """
  @behaviour Koma.Dashboard.Part

  require EEx

  alias Koma.Dashboard.{Button, Format}
  alias Koma.Dashboard.Parts.Jobs
  alias Koma.Job.{Lifecycle, Record}
  alias Koma.Store

  # Parameters may be as large as a frame.
  @max_text 2_000
  @max_events 1_000
  @told_together ~w(progress token)

  EEx.function_from_file(
    :defp,
    :job,
    Path.join(__DIR__, "job.html.eex"),
    [:job, :own?, :rows],
    engine: Koma.Live.HTML,
    trim: true
  )

  @impl true
  def read({nil, _key}), do: nil

  def read({id, operator_key}) do
    # While the number of its last event is the same, nothing else has changed.
    with {:ok, %{seq: seq, key: key}} <- Store.Jobs.fields(id, [:seq, :key]),
         do: {id, seq, key == operator_key},
         else: (:error -> {:unknown, id})
  end

  @impl true
  def html(nil), do: {:safe, ""}

  def html({:unknown, id}), do: unknown(id)

  def html({id, _seq, own?}) do
    case Store.Jobs.fetch(id) do
      {:ok, %Record{} = job} -> job(job, own?, rows(job, Store.Jobs.events(id, 0)))
      _unknown -> unknown(id)
    end
  end

  EEx.function_from_string(
    :defp,
    :unknown,
    ~S(<h2>Job</h2><p class="quiet">There is no job <code><%= id %></code>, or it is forgotten.</p>),
    [:id],
    engine: Koma.Live.HTML
  )

  defp rows(job, events) do
    if ended?(job) and length(events) <= @max_events,
      do: Enum.map(events, &[&1]),
      else: Enum.chunk_by(events, &if(&1.type in @told_together, do: :together, else: &1.seq))
  end

  defp numbers([event]), do: event.seq
  defp numbers([first | _] = events), do: "#{first.seq}–#{List.last(events).seq}"

  defp types(events), do: events |> Enum.map(& &1.type) |> Enum.uniq() |> Enum.join(", ")

  defp ended?(job), do: Lifecycle.terminal?(job.state)

  defp params(job, own?), do: job.params |> shown(own?) |> json()

  defp outputs(job, own?) do
    json(for output <- job.outputs, do: Map.replace(output, "text", shown(output["text"], own?)))
  end

  defp shown(value, true), do: value
  defp shown(text, false) when is_binary(text), do: "(#{String.length(text)} characters)"
  defp shown(list, false) when is_list(list), do: Enum.map(list, &shown(&1, false))

  defp shown(map, false) when is_map(map) do
    Map.new(map, fn {name, value} -> {name, shown(value, false)} end)
  end

  defp shown(value, false), do: value

  defp json(value) do
    text = value |> Koma.JSON.encode!() |> IO.iodata_to_binary()
    if String.length(text) > @max_text, do: String.slice(text, 0, @max_text) <> "…", else: text
  end

  defp details(%{type: "token", data: data}, true), do: inspect(data["text"])
  defp details(%{type: "token", data: data}, false), do: shown(data["text"], false)
  defp details(event, _own?), do: details(event)

  defp details(%{type: "progress", data: d}), do: "#{d["phase"]} #{d["step"]}/#{d["total"]}"
  defp details(%{type: "started", data: d}), do: "attempt #{d["attempt"]} on #{d["node"]}"

  defp details(%{type: "queued", data: d}) do
    wait = if d["wait_ms"], do: ", about #{Format.duration(d["wait_ms"])}"
    "place #{d["position"]}#{wait}#{if d["paused"], do: ", paused"}"
  end

  defp details(%{data: %{"code" => code, "message" => message}}), do: "#{code}: #{message}"
  defp details(%{type: "completed", data: data}), do: "#{length(data["outputs"])} outputs"
  defp details(%{data: data}), do: json(data)
end
