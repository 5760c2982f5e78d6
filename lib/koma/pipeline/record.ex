defmodule Koma.Pipeline.Record do
  @moduledoc """
  What is known of a pipeline: the accepted graph and the effect of each event. The live process,
  the recovery after a restart and readers of finished pipelines fold events with the same
  `apply/2`. Pure.
  """

  alias Koma.Job.Event
  alias Koma.Pipeline.Graph

  @enforce_keys [:id, :key, :graph, :created_at]
  defstruct [
    :id,
    :key,
    :graph,
    :created_at,
    :error,
    # The digest of a request with an idempotency key.
    :once,
    state: "running",
    seq: 0,
    starts: 0,
    stages: %{},
    outputs: %{}
  ]

  defmodule Progress do
    @moduledoc "How far one stage is; `job_seq` is the last event of its job that was taken in."

    defstruct [:job, :error, state: "waiting", job_seq: 0]

    @type t :: %__MODULE__{
            job: String.t() | nil,
            error: map | nil,
            state: String.t(),
            job_seq: non_neg_integer
          }
  end

  @type t :: %__MODULE__{
          id: String.t(),
          key: String.t() | nil,
          graph: Graph.t(),
          created_at: integer,
          error: map | nil,
          once: binary | nil,
          state: String.t(),
          seq: non_neg_integer,
          starts: non_neg_integer,
          stages: %{String.t() => Progress.t()},
          outputs: %{String.t() => map}
        }

  @doc "An accepted pipeline in which nothing has happened yet."
  @spec new(String.t(), String.t() | nil, Graph.t()) :: t
  def new(id, key, %Graph{} = graph) do
    %__MODULE__{
      id: id,
      key: key,
      graph: graph,
      created_at: System.system_time(:millisecond),
      stages: Map.new(graph.stages, &{&1.name, %Progress{}})
    }
  end

  @doc "The next event."
  @spec event(t, String.t(), map) :: Event.t()
  def event(%__MODULE__{seq: seq}, type, data) do
    %Event{seq: seq + 1, type: type, at: System.system_time(:millisecond), data: data}
  end

  @doc "The record after an event. Raises when a number is left out."
  @spec apply(t, Event.t()) :: t
  def apply(%__MODULE__{seq: last} = record, %Event{seq: seq} = event) when seq == last + 1 do
    effect(%__MODULE__{record | seq: seq}, event.type, event.data)
  end

  defp effect(record, "stage", %{"stage" => name} = data) do
    stage = stage_effect(record.stages[name], data)
    record = %__MODULE__{record | stages: Map.put(record.stages, name, stage)}
    if data["event"] == "completed", do: add_outputs(record, name, data["payload"]), else: record
  end

  defp effect(record, "completed", _data), do: %__MODULE__{record | state: "completed"}

  defp effect(record, "failed", data), do: %__MODULE__{record | state: "failed", error: data}

  defp effect(record, "cancelled", data) do
    stages = Map.new(record.stages, fn {name, stage} -> {name, given_up(stage)} end)
    %__MODULE__{record | state: "cancelled", error: data, stages: stages}
  end

  defp stage_effect(stage, %{"event" => event, "job" => job, "payload" => payload}) do
    stage = %Progress{stage | job: job, job_seq: payload["seq"] || stage.job_seq}

    case event do
      "completed" ->
        %Progress{stage | state: "completed"}

      "cancelled" ->
        %Progress{stage | state: "cancelled", error: error(payload)}

      ended when ended in ~w(failed expired) ->
        %Progress{stage | state: "failed", error: error(payload)}

      _going_on ->
        %Progress{stage | state: "running"}
    end
  end

  defp add_outputs(record, name, payload) do
    new = Map.new(payload["outputs"], &{"#{name}.#{&1["name"]}", &1})
    %__MODULE__{record | outputs: Map.merge(record.outputs, new)}
  end

  defp given_up(%Progress{state: state} = stage) when state in ~w(waiting running) do
    %Progress{stage | state: "cancelled"}
  end

  defp given_up(stage), do: stage

  defp error(payload), do: Map.take(payload, ~w(code message field value bound))

  @doc "The states of the stages by name, as `Koma.Pipeline.Graph` wants them."
  @spec states(t) :: %{String.t() => String.t()}
  def states(%__MODULE__{stages: stages}) do
    Map.new(stages, fn {name, stage} -> {name, stage.state} end)
  end

  @doc "A record that was stored by an earlier version, with the fields that came since."
  @spec upgrade(t) :: t
  def upgrade(%__MODULE__{} = record), do: struct(__MODULE__, Map.from_struct(record))

  @doc "Whether the pipeline has ended."
  @spec ended?(t) :: boolean
  def ended?(%__MODULE__{state: state}), do: state != "running"

  @doc "The pipeline as clients see it (docs/api.md)."
  @spec to_map(t) :: %{String.t() => term}
  def to_map(%__MODULE__{} = record) do
    %{
      "id" => record.id,
      "state" => record.state,
      "seq" => record.seq,
      "created_at" => record.created_at,
      "stages" => Enum.map(record.graph.stages, &stage_map(&1, record.stages[&1.name]))
    }
    |> put_present("outputs", if(record.outputs != %{}, do: record.outputs))
    |> put_present("error", record.error)
  end

  defp stage_map(stage, progress) do
    %{"name" => stage.name, "task" => stage.task, "state" => progress.state}
    |> put_present("job", progress.job)
    |> put_present("error", progress.error)
  end

  defp put_present(map, _key, nil), do: map
  defp put_present(map, key, value), do: Map.put(map, key, value)
end
