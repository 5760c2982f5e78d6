defmodule Koma.Scheduler.Placement do
  @moduledoc """
  Which model node takes the next job: the one with the largest share of free slots, the first
  by name on a tie. Pure; a slot is taken from `take/3` until `free/3`.

  A model node that still holds an earlier attempt of the job (it was told to stop, and has not let
  go yet) is no candidate: what it says last of the old attempt would be taken for the new one.

  A job that must run alone (`take_alone/3`) gets a model node that runs nothing else, and keeps
  it to itself. While there is none, the one with the fewest jobs is reserved: it gets no more
  jobs, so it is empty some time.
  """

  defstruct nodes: %{}

  @type name :: String.t()
  @type id :: String.t()
  @type member :: %{
          pid: pid,
          family: String.t(),
          slots: pos_integer,
          jobs: MapSet.t(id),
          alone: id | nil,
          closed: boolean
        }
  @type t :: %__MODULE__{nodes: %{name => member}}

  @doc "No model nodes."
  @spec new() :: t
  def new, do: %__MODULE__{}

  @doc "A model node is ready, with the jobs that it already has."
  @spec up(t, name, pid, String.t(), pos_integer, [id]) :: t
  def up(%__MODULE__{} = placement, name, pid, family, slots, jobs) do
    member = %{pid: pid, family: family, slots: slots, jobs: MapSet.new(jobs)}
    member = Map.merge(member, %{alone: nil, closed: false})
    put_in(placement.nodes[name], member)
  end

  @doc "A model node takes no more jobs; those that it has go on."
  @spec close(t, name) :: t
  def close(%__MODULE__{nodes: nodes} = placement, name) do
    case nodes do
      %{^name => node} ->
        # Whoever was to have it alone looks for another one.
        alone = if node.alone in node.jobs, do: node.alone
        put_in(placement.nodes[name], %{node | closed: true, alone: alone})

      _gone ->
        placement
    end
  end

  @doc "A model node is gone, and its slots with it."
  @spec down(t, name) :: t
  def down(%__MODULE__{} = placement, name) do
    %{placement | nodes: Map.delete(placement.nodes, name)}
  end

  @doc "Takes a slot of a family for a job that shares its model node with others."
  @spec take(t, String.t(), id) :: {:ok, name, pid, t} | :none
  def take(%__MODULE__{} = placement, family, id) do
    case best(placement, family, &(free_slots(&1) > 0 and id not in &1.jobs)) do
      nil -> :none
      found -> given(placement, found, id)
    end
  end

  @doc "Takes a model node for a job that must run alone, or reserves one for it."
  @spec take_alone(t, String.t(), id) :: {:ok, name, pid, t} | {:none, t}
  def take_alone(%__MODULE__{} = placement, family, id) do
    placement = reserve(placement, family, id)

    case Enum.find(placement.nodes, fn {_name, node} -> node.alone == id end) do
      {_name, node} = found ->
        if MapSet.size(node.jobs) == 0, do: given(placement, found, id), else: {:none, placement}

      nil ->
        {:none, placement}
    end
  end

  @doc "Gives a slot back; harmless when it was not taken."
  @spec free(t, name, id) :: t
  def free(%__MODULE__{nodes: nodes} = placement, name, id) do
    case nodes do
      %{^name => %{jobs: jobs} = node} ->
        alone = if node.alone == id and id in jobs, do: nil, else: node.alone
        put_in(placement.nodes[name], %{node | jobs: MapSet.delete(jobs, id), alone: alone})

      _gone ->
        placement
    end
  end

  @doc "No job of the family waits to run alone any more; those that run alone go on."
  @spec unreserve(t, String.t()) :: t
  def unreserve(%__MODULE__{nodes: nodes} = placement, family) do
    nodes =
      Map.new(nodes, fn {name, node} ->
        waits? = node.family == family and node.alone not in node.jobs
        {name, if(waits?, do: %{node | alone: nil}, else: node)}
      end)

    %{placement | nodes: nodes}
  end

  @doc "How many jobs hold a slot."
  @spec running(t) :: non_neg_integer
  def running(%__MODULE__{nodes: nodes}) do
    nodes |> Map.values() |> Enum.map(&MapSet.size(&1.jobs)) |> Enum.sum()
  end

  defp reserve(placement, family, id) do
    reserved? = Enum.any?(placement.nodes, fn {_name, node} -> node.alone == id end)

    case not reserved? && best(placement, family, fn _any -> true end) do
      {name, _node} -> put_in(placement.nodes[name].alone, id)
      _reserved_or_none -> placement
    end
  end

  defp best(placement, family, fits?) do
    placement.nodes
    |> Enum.filter(fn {_name, node} ->
      node.family == family and node.alone == nil and not node.closed and fits?.(node)
    end)
    |> Enum.min_by(fn {name, node} -> {-free_slots(node) / node.slots, name} end, fn -> nil end)
  end

  defp given(placement, {name, node}, id) do
    {:ok, name, node.pid, put_in(placement.nodes[name].jobs, MapSet.put(node.jobs, id))}
  end

  # A stale slot count can be exceeded for a moment after the scheduler was restarted.
  defp free_slots(node), do: max(node.slots - MapSet.size(node.jobs), 0)
end
