defmodule Koma.Queue.News do
  @moduledoc """
  Which waiting jobs are to be told a new position, so that the wait stays visible at a bounded
  price: only when the position changed by a tenth of the one last told (of the first ten, by
  any), at most once per `gap_ms`, and for a job that was told 64 times, 128 times, … at most once
  per 2, 4, … times that. So a queue that moves on tells each job a few dozen times, and even a
  day in one that does not makes less than a thousand events. Pure; times are in milliseconds.
  """

  import Bitwise

  @patience 64
  @share 10

  defstruct told: %{}

  @type id :: String.t()
  @opaque t :: %__MODULE__{
            told: %{id => {position :: pos_integer, at :: integer, times :: pos_integer}}
          }

  @doc "Nobody was told anything."
  @spec new() :: t
  def new, do: %__MODULE__{}

  @doc "The job knows its position."
  @spec told(t, id, pos_integer, integer) :: t
  def told(%__MODULE__{told: told} = news, id, position, now) do
    times = with %{^id => {_position, _at, times}} <- told, do: times, else: (_ -> 0)
    %{news | told: Map.put(told, id, {position, now, times + 1})}
  end

  @doc "Those of `positions` that are to be told now; the others may be later."
  @spec due(t, [{id, pos_integer}], pos_integer, integer) :: [{id, pos_integer}]
  def due(%__MODULE__{told: told}, positions, gap_ms, now) do
    for {id, position} <- positions, due?(told[id], position, gap_ms, now), do: {id, position}
  end

  @doc "The job waits no longer."
  @spec forget(t, id) :: t
  def forget(%__MODULE__{told: told} = news, id), do: %{news | told: Map.delete(told, id)}

  defp due?(nil, _position, _gap_ms, _now), do: true

  defp due?({told, at, times}, position, gap_ms, now) do
    moved? = position != told and abs(position - told) * @share >= told
    moved? and now - at >= gap_ms <<< div(times, @patience)
  end
end
