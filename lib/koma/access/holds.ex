defmodule Koma.Access.Holds do
  @moduledoc """
  What keys hold at the moment (sockets, topics, uploads, bytes on their way), and which process holds
  it for them. Pure; `Koma.Access.Usage` lets go of what the processes held that died.
  """

  defstruct sums: %{}, holders: %{}

  @type key :: String.t()
  @type kind :: :sockets | :topics | :uploads | :stored_bytes
  @type t :: %__MODULE__{
          sums: %{{key, kind} => pos_integer},
          holders: %{pid => %{{key, kind} => pos_integer}}
        }

  @doc "A process holds `amount` more for a key, or `:full` where that would be more than `limit`."
  @spec take(t, pid, {key, kind}, pos_integer, limit :: non_neg_integer | nil) :: {:ok, t} | :full
  def take(%__MODULE__{} = holds, pid, what, amount, limit) do
    if limit != nil and sum(holds, what) + amount > limit do
      :full
    else
      held = holds.holders |> Map.get(pid, %{}) |> Map.update(what, amount, &(&1 + amount))
      sums = Map.update(holds.sums, what, amount, &(&1 + amount))
      {:ok, %__MODULE__{sums: sums, holders: Map.put(holds.holders, pid, held)}}
    end
  end

  @doc "A process holds so much less; harmless for what it does not hold."
  @spec give(t, pid, {key, kind}, pos_integer) :: t
  def give(%__MODULE__{} = holds, pid, what, amount) do
    held = Map.get(holds.holders, pid, %{})
    amount = min(amount, Map.get(held, what, 0))
    held = less(held, what, amount)

    holders =
      if held == %{}, do: Map.delete(holds.holders, pid), else: %{holds.holders | pid => held}

    %__MODULE__{sums: less(holds.sums, what, amount), holders: holders}
  end

  @doc "A process holds nothing any more."
  @spec drop(t, pid) :: t
  def drop(%__MODULE__{} = holds, pid) do
    {held, holders} = Map.pop(holds.holders, pid, %{})
    sums = Enum.reduce(held, holds.sums, fn {what, amount}, sums -> less(sums, what, amount) end)
    %__MODULE__{sums: sums, holders: holders}
  end

  @doc "What a key holds of a kind."
  @spec sum(t, {key, kind}) :: non_neg_integer
  def sum(%__MODULE__{sums: sums}, what), do: Map.get(sums, what, 0)

  @doc "Whether a process holds anything."
  @spec holder?(t, pid) :: boolean
  def holder?(%__MODULE__{holders: holders}, pid), do: is_map_key(holders, pid)

  @doc "The processes that hold something of a kind."
  @spec holders(t, kind) :: [pid]
  def holders(%__MODULE__{holders: holders}, kind) do
    for {pid, held} <- holders, Enum.any?(held, &match?({{_key, ^kind}, _amount}, &1)), do: pid
  end

  defp less(amounts, what, amount) do
    case Map.get(amounts, what, 0) - amount do
      0 -> Map.delete(amounts, what)
      left -> Map.put(amounts, what, left)
    end
  end
end
