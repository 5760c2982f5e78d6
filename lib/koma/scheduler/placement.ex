defmodule Koma.Scheduler.Placement do
  @moduledoc """
  Which model node takes the next job. Pure; a slot is taken from `take/4` until `free/3`.

  **Of this peer** the one with the largest share of free slots, the first by name on a tie. **Of
  other peers** the better of two that are drawn by chance: several schedulers that all took the best
  one would meet there. Between the two the one with the shorter wait, then the larger share; this
  peer on a tie, for nothing has to travel.

  Of a model node of another peer this is an estimate: what that peer told last, and what was
  taken here since. The last word has its own scheduler (`host/4`), which may refuse.

  A model node that still holds an earlier attempt of the job (it was told to stop, and has not let
  go yet) is no candidate: what it says last of the old attempt would be taken for the new one.

  A job that must run alone (`take_alone/3`) gets a model node that runs nothing else, and keeps
  it to itself. While there is none, the one with the fewest jobs is reserved: it gets no more
  jobs, so it is empty some time.

  A job under which peers died (`take_apart/4`) gets a whole peer in the same way: none of that peer's
  model nodes, of whatever family, gets another job until it is done. `apart` says who has which
  peer, or waits for it; nil is this one.
  """

  defstruct nodes: %{}, apart: %{}

  @type name :: String.t()
  @type id :: String.t()
  @typedoc """
  `peer` is nil for a model node of this one; `others` are jobs that hold a slot there and were not
  placed here; `hold_ms` is how long a job holds a slot, on average.
  """
  @type member :: %{
          pid: pid | {atom, node},
          peer: node | nil,
          family: String.t(),
          slots: pos_integer,
          jobs: MapSet.t(id),
          others: MapSet.t(id),
          hold_ms: number,
          alone: id | nil,
          closed: boolean
        }
  @typedoc "What a peer tells the others of one of its model nodes."
  @type told :: %{
          family: String.t(),
          slots: pos_integer,
          jobs: [id],
          wait_ms: non_neg_integer,
          hold_ms: number,
          open: boolean
        }
  @type t :: %__MODULE__{
          nodes: %{name => member},
          apart: %{(peer :: node | nil) => {id, family :: String.t()}}
        }

  @doc "No model nodes."
  @spec new() :: t
  def new, do: %__MODULE__{}

  @doc "A model node is ready, with the jobs that it already has."
  @spec up(t, name, pid, String.t(), pos_integer, [id]) :: t
  def up(%__MODULE__{} = placement, name, pid, family, slots, jobs) do
    hold_ms = with %{^name => known} <- placement.nodes, do: known.hold_ms, else: (_ -> 0)
    member = %{pid: pid, peer: nil, family: family, slots: slots, jobs: MapSet.new(jobs)}

    member =
      Map.merge(member, %{others: MapSet.new(), hold_ms: hold_ms, alone: nil, closed: false})

    put_in(placement.nodes[name], member)
  end

  @doc "A peer tells of one of its model nodes, which is reached through `pid`."
  @spec offered(t, name, node, {atom, node}, told) :: t
  def offered(%__MODULE__{nodes: nodes} = placement, name, peer, pid, told) do
    known = Map.get(nodes, name, %{jobs: MapSet.new(), alone: nil})

    member = %{
      pid: pid,
      peer: peer,
      family: told.family,
      slots: told.slots,
      jobs: known.jobs,
      others: MapSet.difference(MapSet.new(told.jobs), known.jobs),
      hold_ms: told.hold_ms,
      alone: known.alone,
      closed: not told.open
    }

    put_in(placement.nodes[name], member)
  end

  @doc "What the other peers are told of a model node; nil for one that is not here, or not of this peer."
  @spec told(t, name) :: told | nil
  def told(%__MODULE__{nodes: nodes, apart: apart}, name) do
    with %{^name => %{peer: nil} = node} <- nodes do
      %{
        family: node.family,
        slots: node.slots,
        jobs: MapSet.to_list(node.jobs),
        wait_ms: round(wait_ms(node)),
        hold_ms: node.hold_ms,
        open: not node.closed and node.alone == nil and apart[nil] == nil
      }
    else
      _of_another_peer -> nil
    end
  end

  @doc "A job held a slot for so long: the mean is that of about the last ten."
  @spec measured(t, name, non_neg_integer) :: t
  def measured(%__MODULE__{nodes: nodes} = placement, name, ms) do
    case nodes do
      %{^name => %{hold_ms: 0}} ->
        put_in(placement.nodes[name].hold_ms, ms)

      %{^name => %{hold_ms: mean}} ->
        put_in(placement.nodes[name].hold_ms, mean + (ms - mean) / 10)

      _gone ->
        placement
    end
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
    {node, nodes} = Map.pop(placement.nodes, name)
    placement = %{placement | nodes: nodes}

    if node && (apart(placement, node) in node.jobs or nobody_of?(nodes, node.peer)),
      do: unkeep(placement, node.peer),
      else: placement
  end

  defp nobody_of?(nodes, peer), do: not Enum.any?(nodes, fn {_, node} -> node.peer == peer end)

  # The job that has the peer of this model node to itself, or waits for that.
  defp apart(placement, node) do
    with {id, _family} <- placement.apart[node.peer], do: id
  end

  @doc """
  Takes a slot of a family for a job that shares its model node with others. `chance` in 0.0..1.0
  (less than 1) draws the two candidates of other peers.
  """
  @spec take(t, String.t(), id, chance :: float) :: {:ok, name, member, t} | :none
  def take(%__MODULE__{} = placement, family, id, chance \\ 0.0) do
    case best(placement, family, &(free_slots(&1) > 0 and not holds?(&1, id)), chance) do
      nil -> :none
      found -> given(placement, found, id)
    end
  end

  @doc """
  Takes a slot of one model node of this peer for a job that another peer placed here. An
  `:alone` job gets it when it is empty, an `:apart` one when all of this peer are; until then they
  are kept from others: `:wait`.
  """
  @spec host(t, name, id, :shared | :alone | :apart) ::
          {:ok, name, member, t} | {:wait, t} | :refused
  def host(%__MODULE__{apart: %{nil => {other, _family}}}, _name, id, _mode) when other != id,
    do: :refused

  def host(%__MODULE__{nodes: nodes} = placement, name, id, mode) do
    case {nodes, mode} do
      {%{^name => %{closed: false, peer: nil} = node}, :apart} ->
        placement = put_in(placement.apart[nil], {id, node.family})
        if empty?(placement), do: given(placement, {name, node}, id), else: {:wait, placement}

      {%{^name => %{closed: false, alone: nil} = node}, :shared} ->
        if free_slots(node) > 0 and not holds?(node, id),
          do: given(placement, {name, node}, id),
          else: :refused

      {%{^name => %{closed: false, alone: alone} = node}, :alone} when alone in [nil, id] ->
        placement = put_in(placement.nodes[name].alone, id)

        if MapSet.size(node.jobs) == 0,
          do: given(placement, {name, node}, id),
          else: {:wait, placement}

      _gone_or_closed ->
        :refused
    end
  end

  @doc "Takes a model node for a job that must run alone, or reserves one for it."
  @spec take_alone(t, String.t(), id, chance :: float) :: {:ok, name, member, t} | {:none, t}
  def take_alone(%__MODULE__{} = placement, family, id, chance \\ 0.0) do
    placement = reserve(placement, family, id, chance)

    found = Enum.find(placement.nodes, fn {_name, node} -> node.alone == id end)

    # On another peer its scheduler sees to it that the model node is empty.
    given_if(placement, found, id, fn node ->
      (MapSet.size(node.jobs) == 0 or node.peer != nil) and not kept?(placement, node)
    end)
  end

  @doc "Takes a whole peer for a job under which peers died, or reserves one for it."
  @spec take_apart(t, String.t(), id, chance :: float) :: {:ok, name, member, t} | {:none, t}
  def take_apart(%__MODULE__{} = placement, family, id, chance \\ 0.0) do
    placement = keep_peer(placement, family, id, chance)
    found = kept(placement, family, id)
    # As with a model node of another peer: its scheduler sees to it that the peer is empty.
    given_if(placement, found, id, &(&1.peer != nil or empty?(placement)))
  end

  defp given_if(placement, nil, _id, _free?), do: {:none, placement}

  defp given_if(placement, {_name, node} = found, id, free?) do
    if free?.(node), do: given(placement, found, id), else: {:none, placement}
  end

  defp keep_peer(placement, family, id, chance) do
    if kept(placement, family, id) do
      placement
    else
      # What was kept may have no model node for it any more.
      apart = placement.apart |> Enum.reject(fn {_peer, {of, _}} -> of == id end) |> Map.new()
      placement = %{placement | apart: apart}

      case best(placement, family, &(not elsewhere?(&1, id)), chance) do
        {_name, node} -> put_in(placement.apart[node.peer], {id, family})
        nil -> placement
      end
    end
  end

  # A model node for the job, on the peer that is kept for it.
  defp kept(placement, family, id) do
    Enum.find(placement.nodes, fn {_name, node} ->
      match?({^id, _family}, placement.apart[node.peer]) and node.family == family and
        not node.closed and not holds?(node, id)
    end)
  end

  defp kept?(placement, node), do: is_map_key(placement.apart, node.peer)

  defp empty?(placement) do
    Enum.all?(placement.nodes, fn {_name, node} ->
      node.peer != nil or MapSet.size(node.jobs) == 0
    end)
  end

  @doc "Gives a slot back; harmless when it was not taken."
  @spec free(t, name, id) :: t
  def free(%__MODULE__{nodes: nodes} = placement, name, id) do
    case nodes do
      %{^name => %{jobs: jobs} = node} ->
        alone = if node.alone == id and id in jobs, do: nil, else: node.alone
        others = MapSet.delete(node.others, id)
        apart? = id in jobs and apart(placement, node) == id
        placement = if apart?, do: unkeep(placement, node.peer), else: placement
        node = %{node | jobs: MapSet.delete(jobs, id), others: others, alone: alone}
        put_in(placement.nodes[name], node)

      _gone ->
        placement
    end
  end

  @doc "No job of the family waits to run alone, or apart, any more; those that run so go on."
  @spec unreserve(t, String.t()) :: t
  def unreserve(%__MODULE__{nodes: nodes} = placement, family) do
    waiting = for {peer, {id, ^family}} <- placement.apart, not runs?(placement, id), do: peer
    placement = Enum.reduce(waiting, placement, &unkeep(&2, &1))

    nodes =
      Map.new(nodes, fn {name, node} ->
        waits? = node.family == family and node.alone not in node.jobs
        {name, if(waits?, do: %{node | alone: nil}, else: node)}
      end)

    %{placement | nodes: nodes}
  end

  defp runs?(placement, id), do: Enum.any?(placement.nodes, fn {_, node} -> id in node.jobs end)
  defp unkeep(placement, peer), do: %{placement | apart: Map.delete(placement.apart, peer)}

  @doc "A job that waited to have this model node, or this peer, to itself waits no longer."
  @spec unreserve_for(t, name, id) :: t
  def unreserve_for(%__MODULE__{apart: %{nil => {id, _family}}} = placement, _name, id) do
    if runs?(placement, id), do: placement, else: unkeep(placement, nil)
  end

  def unreserve_for(%__MODULE__{nodes: nodes} = placement, name, id) do
    case nodes do
      %{^name => %{alone: ^id, jobs: jobs}} ->
        if id in jobs, do: placement, else: put_in(placement.nodes[name].alone, nil)

      _not_reserved ->
        placement
    end
  end

  @doc "How many jobs hold a slot, here or, of those placed here, on other peers."
  @spec running(t) :: non_neg_integer
  def running(%__MODULE__{nodes: nodes}) do
    nodes |> Map.values() |> Enum.map(&MapSet.size(&1.jobs)) |> Enum.sum()
  end

  @doc "How many jobs hold a slot of a model node of this peer."
  @spec held_here(t) :: non_neg_integer
  def held_here(%__MODULE__{nodes: nodes}) do
    held = for {_name, %{peer: nil} = node} <- nodes, do: MapSet.size(node.jobs)
    Enum.sum(held)
  end

  defp reserve(placement, family, id, chance) do
    reserved? = Enum.any?(placement.nodes, fn {_name, node} -> node.alone == id end)

    case not reserved? && best(placement, family, &(not elsewhere?(&1, id)), chance) do
      {name, _node} -> put_in(placement.nodes[name].alone, id)
      _reserved_or_none -> placement
    end
  end

  # An earlier attempt that a peer has not let go yet: it would refuse.
  defp elsewhere?(node, id), do: node.peer != nil and holds?(node, id)

  defp best(placement, family, fits?, chance) do
    {here, elsewhere} =
      placement.nodes
      |> Enum.filter(fn {_name, node} ->
        node.family == family and node.alone == nil and not node.closed and
          not kept?(placement, node) and fits?.(node)
      end)
      |> Enum.split_with(fn {_name, node} -> node.peer == nil end)

    Enum.min_by(here ++ two(elsewhere, chance), &rank/1, fn -> nil end)
  end

  defp rank({name, node}) do
    {wait_ms(node), -free_slots(node) / node.slots, node.peer != nil, name}
  end

  defp two([_, _, _ | _] = candidates, chance) do
    count = length(candidates)
    first = trunc(chance * count)
    rest = chance * count - first
    second = rem(first + 1 + trunc(rest * (count - 1)), count)
    [Enum.at(candidates, first), Enum.at(candidates, second)]
  end

  defp two(candidates, _chance), do: candidates

  # Until one of the jobs lets its slot go.
  defp wait_ms(node), do: if(free_slots(node) > 0, do: 0, else: node.hold_ms / node.slots)

  defp given(placement, {name, node}, id) do
    {:ok, name, node, put_in(placement.nodes[name].jobs, MapSet.put(node.jobs, id))}
  end

  defp holds?(node, id), do: id in node.jobs or id in node.others

  # A stale slot count can be exceeded for a moment after the scheduler was restarted.
  defp free_slots(node) do
    max(node.slots - MapSet.size(node.jobs) - MapSet.size(node.others), 0)
  end
end
