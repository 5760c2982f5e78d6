defmodule Koma.Job.Record do
  @moduledoc """
  What is known of a job, and what is stored of it: how it was accepted plus the effect of each
  event. The live process and the recovery after a restart fold events with the same `apply/2`.
  """

  alias Koma.Job.{Event, Lifecycle}

  @enforce_keys [:id, :task, :model, :created_at]
  defstruct [
    :id,
    :key,
    :task,
    :model,
    :created_at,
    :finished_at,
    :seed,
    :deadline_ms,
    :outputs,
    :timings,
    :error,
    :node,
    :checkpoint,
    :fingerprint,
    # The digest of a request with an idempotency key.
    :once,
    cached: false,
    state: "accepted",
    attempt: 0,
    # Attempts that were lost with their model node, or with their peer; and the latter alone.
    losses: 0,
    peer_losses: 0,
    # Counts the gateways that owned the job, one after another: the fence between them.
    epoch: 1,
    seq: 0,
    # The size class of `Koma.Queue.Cost`.
    size: 0,
    params: %{},
    inputs: %{},
    priority: "interactive",
    on_disconnect: "cancel"
  ]

  @type t :: %__MODULE__{
          id: String.t(),
          key: String.t() | nil,
          task: String.t(),
          model: String.t(),
          created_at: integer,
          finished_at: integer | nil,
          seed: non_neg_integer | nil,
          deadline_ms: pos_integer | nil,
          outputs: [map] | nil,
          timings: map | nil,
          error: map | nil,
          node: String.t() | nil,
          checkpoint: String.t() | nil,
          fingerprint: Koma.Cache.Fingerprint.t() | nil,
          once: binary | nil,
          cached: boolean,
          state: Lifecycle.state(),
          attempt: non_neg_integer,
          losses: non_neg_integer,
          peer_losses: non_neg_integer,
          epoch: pos_integer,
          seq: non_neg_integer,
          size: Koma.Queue.Cost.size(),
          params: map,
          inputs: %{String.t() => String.t()},
          priority: String.t(),
          on_disconnect: String.t()
        }

  # The gateway stopped, or the model node died before it got the job.
  @blameless ~w(unavailable)

  @doc "The next event of a job; `type` must be allowed in its state, else this raises."
  @spec event(t, String.t(), map) :: Event.t()
  def event(%__MODULE__{} = record, type, data) do
    {:ok, _state} = Lifecycle.next(record.state, type)
    %Event{seq: record.seq + 1, type: type, at: System.system_time(:millisecond), data: data}
  end

  @doc "The record after an event. Raises when a number is left out or the event is not allowed."
  @spec apply(t, Event.t()) :: t
  def apply(%__MODULE__{seq: last} = record, %Event{seq: seq} = event) when seq == last + 1 do
    {:ok, state} = Lifecycle.next(record.state, event.type)
    effect(%{record | state: state, seq: seq}, event)
  end

  defp effect(record, %Event{type: "started", data: data}) do
    %{record | attempt: data["attempt"], node: data["node"]}
  end

  defp effect(record, %Event{type: "retrying", data: %{"code" => code}})
       when code in @blameless do
    record
  end

  defp effect(record, %Event{type: "retrying", data: %{"code" => "peer_lost"}}) do
    %{record | losses: record.losses + 1, peer_losses: record.peer_losses + 1}
  end

  defp effect(record, %Event{type: "retrying"}), do: %{record | losses: record.losses + 1}

  defp effect(record, %Event{type: "completed", data: data, at: at}) do
    seed = data["seed"] || record.seed
    record = %{record | outputs: data["outputs"], timings: data["timings"], finished_at: at}
    %{record | seed: seed, params: put_seed(record, seed), cached: data["cached"] == true}
  end

  defp effect(record, %Event{type: type, data: data, at: at})
       when type in ~w(failed cancelled expired) do
    %{record | error: data, finished_at: at}
  end

  defp effect(record, _event), do: record

  # Where any seed would do, the result may have another than was drawn for the job.
  defp put_seed(%{params: %{"seed" => _drawn} = params}, seed), do: %{params | "seed" => seed}
  defp put_seed(%{params: params}, _seed), do: params

  @doc "A record that was stored by an earlier version, with the fields that came since."
  @spec upgrade(t) :: t
  def upgrade(%__MODULE__{} = record), do: struct(__MODULE__, Map.from_struct(record))

  @doc "The artifacts that the job needs or made."
  @spec artifacts(t) :: [String.t()]
  def artifacts(%__MODULE__{inputs: inputs, outputs: outputs}) do
    Map.values(inputs) ++ for(%{"artifact" => id} <- outputs || [], do: id)
  end

  @doc "Whether an attempt that was lost with this code is not held against the job."
  @spec blameless?(code :: String.t()) :: boolean
  def blameless?(code), do: code in @blameless

  @doc "Whether the job has ended."
  @spec ended?(t) :: boolean
  def ended?(%__MODULE__{state: state}), do: Lifecycle.terminal?(state)

  @doc "The job as clients see it (docs/api.md): string keys, absent fields left out."
  @spec to_map(t, position :: pos_integer | nil) :: %{String.t() => term}
  def to_map(%__MODULE__{} = record, position \\ nil) do
    always =
      for key <- ~w(id task model state attempt seq created_at params inputs)a,
          into: %{},
          do: {Atom.to_string(key), Map.fetch!(record, key)}

    for key <- ~w(finished_at outputs error seed timings cached)a,
        (value = Map.fetch!(record, key)) not in [nil, false],
        into: put_position(always, position),
        do: {Atom.to_string(key), value}
  end

  defp put_position(map, nil), do: map
  defp put_position(map, position), do: Map.put(map, "position", position)
end
