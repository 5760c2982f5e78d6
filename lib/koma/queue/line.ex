defmodule Koma.Queue.Line do
  @moduledoc """
  Who waits, in which order, and how many may: the pure part of a queue.

  Three classes are served one after another: `:again` (jobs whose model node died; they have
  waited before), `:interactive`, `:batch`; within a class, first come, first served. Places that
  were promised to jobs still being stored count towards the limit. Jobs that were accepted
  before (again, or after a restart) are never refused.
  """

  @enforce_keys [:limit]
  defstruct [:limit, next: 0, order: :gb_sets.new(), keys: %{}, promised: MapSet.new()]

  @type class :: :again | :interactive | :batch
  @type id :: String.t()
  @opaque t :: %__MODULE__{
            limit: pos_integer,
            next: non_neg_integer,
            order: :gb_sets.set({0..2, non_neg_integer, id}),
            keys: %{id => {0..2, non_neg_integer, id}},
            promised: MapSet.t(id)
          }

  @ranks %{again: 0, interactive: 1, batch: 2}

  @doc "An empty line for up to `limit` waiting jobs."
  @spec new(pos_integer) :: t
  def new(limit), do: %__MODULE__{limit: limit}

  @doc "How many wait."
  @spec size(t) :: non_neg_integer
  def size(%__MODULE__{keys: keys}), do: map_size(keys)

  @doc "Promises a place, or says that all are taken."
  @spec promise(t, id) :: {:ok, t} | :full
  def promise(%__MODULE__{} = line, id) do
    if size(line) + MapSet.size(line.promised) < line.limit,
      do: {:ok, %{line | promised: MapSet.put(line.promised, id)}},
      else: :full
  end

  @doc "Puts a job behind the others of its class, in the promised place if there is one."
  @spec put(t, id, class) :: t
  def put(%__MODULE__{keys: keys} = line, id, class) when not is_map_key(keys, id) do
    key = {Map.fetch!(@ranks, class), line.next, id}

    %{
      line
      | next: line.next + 1,
        order: :gb_sets.add(key, line.order),
        keys: Map.put(keys, id, key),
        promised: MapSet.delete(line.promised, id)
    }
  end

  @doc "The job whose turn it is."
  @spec first(t) :: {:ok, id} | :empty
  def first(%__MODULE__{order: order}) do
    if :gb_sets.is_empty(order) do
      :empty
    else
      {_rank, _number, id} = :gb_sets.smallest(order)
      {:ok, id}
    end
  end

  @doc "Takes a job, or the promise to it, out; harmless when it is not there."
  @spec delete(t, id) :: t
  def delete(%__MODULE__{} = line, id) do
    line = %{line | promised: MapSet.delete(line.promised, id)}

    case Map.pop(line.keys, id) do
      {nil, _keys} -> line
      {key, keys} -> %{line | keys: keys, order: :gb_sets.delete(key, line.order)}
    end
  end

  @doc "1 for the job whose turn is next; nil when it does not wait."
  @spec position(t, id) :: pos_integer | nil
  def position(%__MODULE__{keys: keys, order: order}, id) do
    with %{^id => key} <- keys do
      Enum.find_index(:gb_sets.to_list(order), &(&1 == key)) + 1
    else
      _not_waiting -> nil
    end
  end
end
