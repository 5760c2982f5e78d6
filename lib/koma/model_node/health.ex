defmodule Koma.ModelNode.Health do
  @moduledoc """
  Whether a model node still answers: pings, pongs and how long an operation of its engine has
  given no sign of life. Pure; times are monotonic milliseconds.
  """

  @enforce_keys [:answered_at]
  defstruct [:answered_at, next: 1]

  @type t :: %__MODULE__{answered_at: integer, next: pos_integer}

  @doc "A model node that answered just now."
  @spec new(integer) :: t
  def new(now), do: %__MODULE__{answered_at: now}

  @doc "The number of the next ping."
  @spec ping(t) :: {pos_integer, t}
  def ping(%__MODULE__{next: seq} = health), do: {seq, %{health | next: seq + 1}}

  @doc """
  A pong came. `{:hung, reason}` when an operation of the engine has given no sign of life for
  longer than `hang_ms`.
  """
  @spec pong(t, non_neg_integer, pos_integer, integer) :: {:ok, t} | {:hung, String.t()}
  def pong(%__MODULE__{}, busy_ms, hang_ms, _now) when busy_ms > hang_ms do
    {:hung, "an operation gave no sign of life for #{busy_ms} ms, more than #{hang_ms}"}
  end

  def pong(%__MODULE__{} = health, _busy_ms, _hang_ms, now) do
    {:ok, %{health | answered_at: now}}
  end

  @doc "Whether the last pong is longer ago than `timeout_ms`."
  @spec check(t, pos_integer, integer) :: :ok | {:hung, String.t()}
  def check(%__MODULE__{answered_at: at}, timeout_ms, now) when now - at > timeout_ms do
    {:hung, "no answer to pings for #{now - at} ms"}
  end

  def check(%__MODULE__{}, _timeout_ms, _now), do: :ok
end
