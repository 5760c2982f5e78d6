defmodule Koma.Properties.QueueTest do
  use ExUnit.Case, async: true

  import Koma.Properties
  alias Koma.Queue.{Line, Rate}

  @limit 5

  test "the line keeps its bound and its order under any sequence of operations" do
    holds(list(operation()), fn operations ->
      {line, model} = Enum.reduce(operations, {Line.new(@limit), model()}, &step/2)
      departures(line) == order(model)
    end)
  end

  test "the place that is told is the place in which jobs leave" do
    holds(list(operation()), fn operations ->
      {line, model} = Enum.reduce(operations, {Line.new(@limit), model()}, &step/2)

      model
      |> order()
      |> Enum.with_index(1)
      |> Enum.all?(fn {id, place} -> Line.position(line, id) == place end)
    end)
  end

  test "estimated waits grow with the place and are never negative" do
    holds(list(integer(0, 1_000)), fn gaps ->
      {rate, _now} =
        Enum.reduce(gaps, {Rate.blocked(Rate.new(), 0), 0}, fn gap, {rate, now} ->
          {Rate.departed(rate, now + gap), now + gap}
        end)

      waits = for place <- 1..5, do: Rate.wait_ms(rate, place)

      if gaps == [],
        do: Enum.all?(waits, &is_nil/1),
        else: waits == Enum.sort(waits) and hd(waits) >= 0
    end)
  end

  test "a steady stream is measured as what it is" do
    rate =
      Enum.reduce(1..50, Rate.blocked(Rate.new(), 0), fn n, rate ->
        Rate.departed(rate, n * 40)
      end)

    assert Rate.wait_ms(rate, 1) == 40
    assert Rate.wait_ms(rate, 10) == 400
  end

  test "idle time is not measured" do
    rate = Rate.new() |> Rate.blocked(0) |> Rate.departed(10) |> Rate.idle()
    rate = rate |> Rate.blocked(1_000_000) |> Rate.departed(1_000_010)
    assert Rate.wait_ms(rate, 1) == 10
  end

  # The model: promises and waiting jobs as plain lists.
  defp model, do: %{promised: [], waiting: []}

  defp step({:promise, id}, {line, model}) do
    taken = length(model.promised) + length(model.waiting)
    known = id in model.promised or List.keymember?(model.waiting, id, 1)

    case Line.promise(line, id) do
      _any when known -> {line, model}
      {:ok, line} when taken < @limit -> {line, %{model | promised: [id | model.promised]}}
      :full when taken >= @limit -> {line, model}
    end
  end

  defp step({:put, id, class}, {line, model}) do
    if List.keymember?(model.waiting, id, 1) do
      {line, model}
    else
      waiting = model.waiting ++ [{class, id}]

      {Line.put(line, id, class),
       %{model | promised: List.delete(model.promised, id), waiting: waiting}}
    end
  end

  defp step({:delete, id}, {line, model}) do
    waiting = List.keydelete(model.waiting, id, 1)

    {Line.delete(line, id),
     %{model | promised: List.delete(model.promised, id), waiting: waiting}}
  end

  defp order(model) do
    for class <- [:again, :interactive, :batch], {^class, id} <- model.waiting, do: id
  end

  defp departures(line) do
    case Line.first(line) do
      {:ok, id} -> [id | departures(Line.delete(line, id))]
      :empty -> []
    end
  end

  defp operation do
    id = map(integer(1, 8), &"job_#{&1}")
    class = one_of([:again, :interactive, :batch])
    one_of([{:promise, id}, {:put, id, class}, {:delete, id}])
  end
end
