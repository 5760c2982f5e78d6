defmodule Koma.Scheduler.Placement do
  @moduledoc """
  Which model node takes the next job: the one with the largest share of free slots, the first
  by name on a tie. Pure; a slot is taken from `take/3` until `free/3`.
  """

  defstruct nodes: %{}

  @type name :: String.t()
  @type id :: String.t()
  @type member :: %{pid: pid, family: String.t(), slots: pos_integer, jobs: MapSet.t(id)}
  @type t :: %__MODULE__{nodes: %{name => member}}

  @doc "No model nodes."
  @spec new() :: t
  def new, do: %__MODULE__{}

  @doc "A model node is ready, with the jobs that it already has."
  @spec up(t, name, pid, String.t(), pos_integer, [id]) :: t
  def up(%__MODULE__{} = placement, name, pid, family, slots, jobs) do
    member = %{pid: pid, family: family, slots: slots, jobs: MapSet.new(jobs)}
    put_in(placement.nodes[name], member)
  end

  @doc "A model node is gone, and its slots with it."
  @spec down(t, name) :: t
  def down(%__MODULE__{} = placement, name) do
    %{placement | nodes: Map.delete(placement.nodes, name)}
  end

  @doc "Takes a slot of a family for a job."
  @spec take(t, String.t(), id) :: {:ok, name, pid, t} | :none
  def take(%__MODULE__{nodes: nodes} = placement, family, id) do
    nodes
    |> Enum.filter(fn {_name, node} -> node.family == family and free_slots(node) > 0 end)
    |> Enum.min_by(fn {name, node} -> {-free_slots(node) / node.slots, name} end, fn -> nil end)
    |> case do
      nil ->
        :none

      {name, node} ->
        {:ok, name, node.pid, put_in(placement.nodes[name].jobs, MapSet.put(node.jobs, id))}
    end
  end

  @doc "Gives a slot back; harmless when it was not taken."
  @spec free(t, name, id) :: t
  def free(%__MODULE__{nodes: nodes} = placement, name, id) do
    case nodes do
      %{^name => node} -> put_in(placement.nodes[name].jobs, MapSet.delete(node.jobs, id))
      _gone -> placement
    end
  end

  @doc "How many jobs hold a slot."
  @spec running(t) :: non_neg_integer
  def running(%__MODULE__{nodes: nodes}) do
    nodes |> Map.values() |> Enum.map(&MapSet.size(&1.jobs)) |> Enum.sum()
  end

  # A stale slot count can be exceeded for a moment after the scheduler was restarted.
  defp free_slots(node), do: max(node.slots - MapSet.size(node.jobs), 0)
end
