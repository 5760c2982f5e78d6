defmodule Koma.Store.Redis.Outcome do
  @moduledoc "What Redis said to an entry, and what is to be done about it. Pure."

  alias Koma.Store.Redis.Entry

  @typedoc """
  `stored`; `fenced`: the job has another owner; `gone`: Redis does not know the job; `lost`: it
  knows less of it than this gateway; `full`: no room; `broken`: it takes no commands now, or an
  error that nobody expects.
  """
  @type t :: :stored | :fenced | :gone | :lost | :full | {:broken, binary}

  @doc "The meaning of one reply."
  @spec of(Koma.Redis.reply()) :: t
  def of({:ok, "ok"}), do: :stored
  def of({:ok, "fenced"}), do: :fenced
  def of({:ok, "gone"}), do: :gone
  def of({:ok, "gap"}), do: :lost
  def of({:error, <<"OOM", _::binary>>}), do: :full
  def of({:error, <<"MISCONF", _::binary>>}), do: :full
  def of({:error, <<"NOREPLICAS", _::binary>>}), do: :full
  def of({:error, text}), do: {:broken, text}

  @doc """
  Pairs entries with outcomes. An entry that finds a gap only because one before it in the same
  batch was not stored has met the same obstacle.
  """
  @spec pair([Entry.t()], [Koma.Redis.reply()]) :: [{Entry.t(), t}]
  def pair(entries, replies) do
    {paired, _obstacles} =
      entries
      |> Enum.zip(Enum.map(replies, &of/1))
      |> Enum.map_reduce(%{}, fn {entry, outcome}, obstacles ->
        outcome = behind(outcome, obstacles[Entry.id(entry)])
        {{entry, outcome}, note(obstacles, Entry.id(entry), outcome)}
      end)

    paired
  end

  defp behind(:lost, obstacle) when obstacle != nil, do: obstacle
  defp behind(outcome, _obstacle), do: outcome

  defp note(obstacles, id, outcome) when outcome in [:full, :lost] or is_tuple(outcome),
    do: Map.put(obstacles, id, outcome)

  defp note(obstacles, _id, _outcome), do: obstacles
end
