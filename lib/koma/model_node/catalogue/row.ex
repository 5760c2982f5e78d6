defmodule Koma.ModelNode.Catalogue.Row do
  @moduledoc """
  How one model node is. `ready` is its last answer to `load`; `load_ms`, how long its process took
  for that, and `stats`, what it told last, are those of the process that runs. `error` is why it
  is not ready; `last_error` is what its process died of last, and when (ms since 1970).
  """

  alias Koma.Error
  alias Koma.ModelNode.{Order, Spec}
  alias Koma.Wire.Messages.{Ready, Stats}

  @enforce_keys [:spec, :phase]
  defstruct [:spec, :phase, :order, :ready, :error, :last_error, :load_ms, :stats, failures: 0]

  @type t :: %__MODULE__{
          spec: Spec.t(),
          phase: Order.phase(),
          order: Order.t() | nil,
          ready: Ready.t() | nil,
          error: Error.t() | nil,
          last_error: {Error.t(), at :: integer} | nil,
          load_ms: non_neg_integer | nil,
          stats: Stats.t() | nil,
          failures: non_neg_integer
        }

  @doc "The row of a model node, of what its process knows of it."
  @spec new(map) :: t
  def new(%{ready_at: ready_at, started_at: started_at, doom: doom, phase: phase} = state) do
    same = Map.take(state, [:spec, :phase, :order, :ready, :last_error, :stats, :failures])
    error = if not Order.alive?(phase), do: doom
    load_ms = ready_at && ready_at - started_at
    struct!(__MODULE__, Map.merge(same, %{error: error, load_ms: load_ms}))
  end
end
