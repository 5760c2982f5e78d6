defmodule Koma.Queue.Line do
  @moduledoc """
  Who waits, in which order, and how many may: the pure part of a queue.

  **Order.** Jobs whose model node died come first (`Koma.Queue.Ticket`). Of the others, of ten
  turns nine are for interactive jobs and one is for batch jobs while both wait; within each the
  API keys take turns by their weights (`Koma.Queue.Stride`), and the jobs of one key are first
  come, first served.

  **Bounds.** At most `limit` jobs may wait, of at most `budget_ms` estimated cost together; a
  single job may always wait. A key that holds less than its share, its weight among the keys that
  wait, is let in beyond that, so that no other key can keep it out; `2 * limit` is the end
  for all. Places that were promised to jobs still being stored count. Jobs that were accepted
  before (again, or after a restart) are never refused.
  """

  alias Koma.Queue.{Stride, Ticket}

  # Tuples, so that interactive jobs win a tie.
  @classes %{interactive: {0, 9}, batch: {1, 1}}

  @enforce_keys [:limit, :budget_ms, :weights]
  defstruct [
    :limit,
    :budget_ms,
    :weights,
    next: 0,
    places: %{},
    promised: %{},
    held: %{},
    flows: %{},
    turns: Stride.new(),
    keys: %{interactive: Stride.new(), batch: Stride.new()}
  ]

  @type id :: Ticket.id()
  @type option ::
          {:limit, pos_integer}
          | {:budget_ms, pos_integer}
          | {:weights, %{Ticket.key() => pos_integer}}
  @typep flow :: {Ticket.class(), Ticket.key()}
  @typep place :: %{flow: flow, number: non_neg_integer, key: Ticket.key(), cost: pos_integer}
  @opaque t :: %__MODULE__{
            limit: pos_integer,
            budget_ms: pos_integer,
            weights: %{Ticket.key() => pos_integer},
            next: non_neg_integer,
            places: %{id => place},
            promised: %{id => {Ticket.key(), cost :: pos_integer}},
            held: %{Ticket.key() => {count :: pos_integer, cost :: pos_integer}},
            flows: %{flow => :gb_sets.set({non_neg_integer, id})},
            turns: Stride.t(),
            keys: %{interactive: Stride.t(), batch: Stride.t()}
          }

  @doc "An empty line. `weights` may name keys; the others weigh 1."
  @spec new([option]) :: t
  def new(options), do: struct!(__MODULE__, [{:weights, %{}} | options])

  @doc "Other weights: they count from the next turn of each key on."
  @spec weigh(t, %{Ticket.key() => pos_integer}) :: t
  def weigh(line, weights), do: %__MODULE__{line | weights: weights}

  @doc "How many wait."
  @spec size(t) :: non_neg_integer
  def size(%__MODULE__{places: places}), do: map_size(places)

  @doc "How many wait, by API key."
  @spec by_key(t) :: %{Ticket.key() => pos_integer}
  def by_key(%__MODULE__{held: held, promised: promised}) do
    promised = Enum.frequencies_by(promised, fn {_id, {key, _cost}} -> key end)

    for {key, {count, _cost}} <- held,
        waiting = count - Map.get(promised, key, 0),
        waiting > 0,
        into: %{},
        do: {key, waiting}
  end

  @doc "The one that was put first of all who wait."
  @spec oldest(t) :: {:ok, id} | :empty
  def oldest(%__MODULE__{flows: flows}) when flows == %{}, do: :empty

  def oldest(%__MODULE__{flows: flows}) do
    {_number, id} = flows |> Enum.map(fn {_flow, ids} -> :gb_sets.smallest(ids) end) |> Enum.min()
    {:ok, id}
  end

  @doc """
  Promises a place to a job that will cost `cost` ms, or says what is full and how many jobs must
  leave before there is room.
  """
  @spec promise(t, Ticket.t(), pos_integer) :: {:ok, t} | {:full, :count | :cost, pos_integer}
  def promise(%__MODULE__{} = line, %Ticket{id: id, key: key}, cost) do
    {count, total} = held(line)
    full = full(line, count, total, cost)

    if full == nil or (count < 2 * line.limit and below_share?(line, key, cost)) do
      {:ok, hold(%{line | promised: Map.put(line.promised, id, {key, cost})}, key, cost)}
    else
      full
    end
  end

  defp full(%{limit: limit}, count, _total, _cost) when count >= limit do
    {:full, :count, count - limit + 1}
  end

  defp full(%{budget_ms: budget}, count, total, cost) when count > 0 and total + cost > budget do
    {:full, :cost, min(ceil((total + cost - budget) * count / total), count)}
  end

  defp full(_line, _count, _total, _cost), do: nil

  @doc "Whether no job of the key, however little it costs, is let in before somebody has left."
  @spec closed?(t, Ticket.key()) :: boolean
  def closed?(%__MODULE__{} = line, key) do
    {count, _total} = held(line)
    count >= 2 * line.limit or (count >= line.limit and not below_share?(line, key, 0))
  end

  defp below_share?(line, key, cost) do
    {count, held} = Map.get(line.held, key, {0, 0})
    share = share(line, key)
    count + 1 <= share * line.limit and (count == 0 or held + cost <= share * line.budget_ms)
  end

  # That of a key that is alone is everything.
  defp share(line, key) do
    all = line.held |> Map.put_new(key, nil) |> Map.keys() |> Enum.map(&weight(line, &1))
    weight(line, key) / Enum.sum(all)
  end

  defp held(line) do
    Enum.reduce(line.held, {0, 0}, fn {_key, held}, sum -> add(held, sum) end)
  end

  @doc """
  Puts a job behind the others of its flow, in the promised place if there is one. It then counts with
  the cost that was promised: else an estimate that has fallen since would open a line that is closed.
  """
  @spec put(t, Ticket.t(), pos_integer) :: t
  def put(%__MODULE__{places: places} = line, %Ticket{id: id} = ticket, cost)
      when not is_map_key(places, id) do
    {_key, cost} = Map.get(line.promised, id, {ticket.key, cost})
    line = line |> break_promise(id) |> hold(ticket.key, cost)
    flow = flow(ticket)
    place = %{flow: flow, number: line.next, key: ticket.key, cost: cost}
    waiting = Map.get(line.flows, flow, :gb_sets.new())

    enter(
      %{
        line
        | next: line.next + 1,
          places: Map.put(places, id, place),
          flows: Map.put(line.flows, flow, :gb_sets.add({place.number, id}, waiting))
      },
      flow
    )
  end

  @doc "The first of those that must have a peer, or a model node, to themselves."
  @spec first(t, :apart | :alone) :: {:ok, id} | :empty
  def first(line, class), do: head(line, {class, nil})

  @doc "The job whose turn it is, of those that may share a model node."
  @spec first(t) :: {:ok, id} | :empty
  def first(%__MODULE__{} = line) do
    with :empty <- head(line, {:again, nil}),
         {:ok, {_rank, class}} <- Stride.next(line.turns),
         {:ok, key} <- Stride.next(line.keys[class]) do
      head(line, {class, key})
    end
  end

  @doc "Takes out a job that had its turn."
  @spec serve(t, id) :: t
  def serve(line, id), do: take_out(line, id, &Stride.serve/2)

  @doc "Takes a job, or the promise to it, out; harmless when it is not there."
  @spec delete(t, id) :: t
  def delete(line, id), do: line |> break_promise(id) |> take_out(id, &Stride.leave/2)

  @doc "1 for the job whose turn is next; nil when it does not wait."
  @spec position(t, id) :: pos_integer | nil
  def position(%__MODULE__{places: places} = line, id) do
    with %{^id => %{flow: flow, number: number}} <- places do
      index = line.flows[flow] |> :gb_sets.to_list() |> Enum.find_index(&(&1 == {number, id}))
      position(line, flow, index)
    else
      _not_waiting -> nil
    end
  end

  @doc "The positions of all who wait."
  @spec positions(t) :: [{id, pos_integer}]
  def positions(%__MODULE__{flows: flows} = line) do
    for {flow, waiting} <- flows,
        {{_number, id}, index} <- waiting |> :gb_sets.to_list() |> Enum.with_index(),
        do: {id, position(line, flow, index)}
  end

  @doc "The position of the last one of a job's flow: that of a job that was just put."
  @spec last_position(t, Ticket.t()) :: pos_integer
  def last_position(line, ticket) do
    flow = flow(ticket)
    position(line, flow, :gb_sets.size(line.flows[flow]) - 1)
  end

  defp position(_line, {:apart, nil}, index), do: index + 1
  defp position(line, {:alone, nil}, index), do: count(line, :apart) + index + 1

  defp position(line, {:again, nil}, index),
    do: count(line, :apart) + count(line, :alone) + index + 1

  defp position(line, {class, key}, index) do
    in_class = Stride.turns_before(line.keys[class], key, index)
    in_line = Stride.turns_before(line.turns, turn(class), in_class)
    count(line, :apart) + count(line, :alone) + count(line, :again) + in_line + 1
  end

  defp count(line, class) do
    with %{{^class, nil} => waiting} <- line.flows, do: :gb_sets.size(waiting), else: (_ -> 0)
  end

  # Those that go first do so whoever sent them.
  defp flow(%Ticket{class: class}) when class in [:apart, :alone, :again], do: {class, nil}
  defp flow(%Ticket{class: class, key: key}), do: {class, key}

  defp turn(class), do: {@classes |> Map.fetch!(class) |> elem(0), class}

  defp enter(line, {class, key}) when is_map_key(@classes, class) do
    {_rank, class_weight} = @classes[class]
    keys = Map.update!(line.keys, class, &Stride.add(&1, key, weight(line, key)))
    %{line | keys: keys, turns: Stride.add(line.turns, turn(class), class_weight)}
  end

  defp enter(line, _goes_first), do: line

  defp head(%__MODULE__{flows: flows}, flow) do
    case flows do
      %{^flow => waiting} -> {:ok, waiting |> :gb_sets.smallest() |> elem(1)}
      _nobody -> :empty
    end
  end

  defp take_out(line, id, turn_ends) do
    case Map.pop(line.places, id) do
      {nil, _places} -> line
      {place, places} -> %{line | places: places} |> step_out(id, place, turn_ends)
    end
  end

  defp step_out(line, id, %{flow: {class, key} = flow} = place, turn_ends) do
    waiting = :gb_sets.delete({place.number, id}, line.flows[flow])
    empty? = :gb_sets.is_empty(waiting)

    flows = if empty?, do: Map.delete(line.flows, flow), else: Map.put(line.flows, flow, waiting)

    line = let_go(%{line | flows: flows}, place.key, place.cost)

    if is_map_key(@classes, class) do
      keys = Map.update!(line.keys, class, &turn_ends.(&1, key))
      %{line | keys: keys, turns: turn_ends.(line.turns, turn(class))}
    else
      line
    end
  end

  defp break_promise(line, id) do
    case Map.pop(line.promised, id) do
      {nil, _promised} -> line
      {{key, cost}, promised} -> let_go(%{line | promised: promised}, key, cost)
    end
  end

  defp hold(line, key, cost) do
    %{line | held: Map.update(line.held, key, {1, cost}, &add(&1, {1, cost}))}
  end

  defp let_go(line, key, cost) do
    case Map.fetch!(line.held, key) do
      {1, _cost} -> %{line | held: Map.delete(line.held, key)}
      {count, total} -> %{line | held: Map.put(line.held, key, {count - 1, total - cost})}
    end
  end

  defp add({count, cost}, {counts, costs}), do: {count + counts, cost + costs}

  defp weight(line, key), do: Map.get(line.weights, key, 1)
end
