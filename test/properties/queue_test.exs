defmodule Koma.Properties.QueueTest do
  use ExUnit.Case, async: true

  import Koma.Properties
  alias Koma.Queue.{Cost, Line, News, Rate, Ticket}

  @limit 5
  @keys ["a", "b", "c"]
  @weights %{"a" => 1, "b" => 2, "c" => 5}

  describe "the line" do
    test "keeps its bounds under any sequence of operations" do
      holds(list(operation()), fn operations ->
        {line, model} = run(operations)
        accepted = map_size(model.promised)

        Line.size(line) == length(model.waiting) and
          accepted + Line.size(line) <= 2 * @limit + model.unbidden
      end)
    end

    test "counts who waits by key, and knows who was put first" do
      holds(list(operation()), fn operations ->
        {line, model} = run(operations)
        first = with [{id, _key, _class} | _] <- model.waiting, do: {:ok, id}

        Line.by_key(line) == Enum.frequencies_by(model.waiting, &elem(&1, 1)) and
          Line.oldest(line) == if(first == [], do: :empty, else: first)
      end)
    end

    test "lets jobs leave in the order of their told positions" do
      holds(list(operation()), fn operations ->
        {line, _model} = run(operations)
        told = line |> Line.positions() |> Enum.sort_by(&elem(&1, 1))
        order = departures(line)

        Enum.map(told, &elem(&1, 0)) == order and
          Enum.map(told, &elem(&1, 1)) == Enum.to_list(1..length(order)//1) and
          Enum.all?(told, fn {id, position} -> Line.position(line, id) == position end)
      end)
    end

    test "keeps the jobs of one key and class in the order in which they came" do
      holds(list(operation()), fn operations ->
        {line, model} = run(operations)
        order = departures(line)

        Enum.all?(flows(model), fn {_flow, ids} -> Enum.filter(order, &(&1 in ids)) == ids end)
      end)
    end

    test "serves jobs whose model node died before all others" do
      holds(list(operation()), fn operations ->
        {line, model} = run(operations)
        rank = %{apart: 0, alone: 1, again: 2, interactive: 3, batch: 3}
        ranks = for id <- departures(line), do: rank[class(model, id)]
        ranks == Enum.sort(ranks)
      end)
    end
  end

  describe "fairness" do
    test "keys of equal weight that wait all the time are served within one job of each other" do
      holds({integer(1, 6), integer(1, 40)}, fn {keys, turns} ->
        served = for n <- 1..keys, do: {"key#{n}", turns}
        counts = served |> full_line(%{}) |> departures() |> Enum.take(turns) |> count_keys()
        counts = for n <- 1..keys, do: Map.get(counts, "key#{n}", 0)
        Enum.max(counts) - Enum.min(counts) <= 1
      end)
    end

    test "keys are served by their weights, between any two within one job of the ratio" do
      holds({integer(1, 9), integer(1, 9), integer(1, 9), integer(1, 60)}, fn {a, b, c, turns} ->
        weights = %{"a" => a, "b" => b, "c" => c}
        line = full_line(for(key <- @keys, do: {key, turns}), weights)
        counts = line |> departures() |> Enum.take(turns) |> count_keys()

        for {x, y} <- [{"a", "b"}, {"a", "c"}, {"b", "c"}], reduce: true do
          fair? ->
            [n, m] = [Map.get(counts, x, 0), Map.get(counts, y, 0)]
            [v, w] = [weights[x], weights[y]]
            fair? and abs(n / v - m / w) <= max(1 / v, 1 / w) + 1.0e-9
        end
      end)
    end

    test "a key with one job waits for at most one turn of every other, however much they sent" do
      holds({integer(1, 6), integer(0, 30)}, fn {others, served} ->
        line = full_line(for(n <- 1..others, do: {"other#{n}", 40}), %{})
        line = Enum.reduce(1..served//1, line, fn _, line -> serve(line) end)
        line = Line.put(line, ticket("late", "one", :interactive), 1)
        Line.position(line, "late") <= others + 1
      end)
    end

    test "a batch job is served after at most nine interactive ones, and they before it" do
      line = Enum.reduce(1..40, new(), &Line.put(&2, ticket("i#{&1}", nil, :interactive), 1))
      line = Line.put(line, ticket("b", nil, :batch), 1)
      assert Line.position(line, "b") == 10
      first_batch = Line.put(new(), ticket("b", nil, :batch), 1)
      line = Line.put(first_batch, ticket("i", nil, :interactive), 1)
      assert Line.position(line, "i") == 1
    end

    test "a key that comes and goes gains nothing over one that waits" do
      line = full_line([{"waits", 40}], %{})

      # It sends the next job when the one before was served.
      {_line, order} =
        Enum.reduce(1..20, {line, []}, fn n, {line, order} ->
          back? = order == [] or hd(order) == "returns"

          line = if back?, do: Line.put(line, ticket("returns-#{n}", "returns"), 1), else: line

          {:ok, id} = next(line)
          {Line.serve(line, id), [hd(String.split(id, "-")) | order]}
        end)

      assert Enum.frequencies(order) == %{"returns" => 10, "waits" => 10}
    end
  end

  describe "admission" do
    test "a full line says how many must leave; work over the budget, too" do
      line = Line.new(limit: 3, budget_ms: 1_000)
      {:ok, line} = Line.promise(line, ticket("1", nil), 600)
      {:ok, line} = Line.promise(line, ticket("2", nil), 300)
      assert {:full, :cost, 1} = Line.promise(line, ticket("3", nil), 200)
      {:ok, line} = Line.promise(line, ticket("3", nil), 100)
      assert {:full, :count, 1} = Line.promise(line, ticket("4", nil), 1)
      assert {:ok, _line} = line |> Line.delete("1") |> Line.promise(ticket("4", nil), 500)
    end

    test "a single job may wait whatever it costs" do
      line = Line.new(limit: 3, budget_ms: 10)
      assert {:ok, line} = Line.promise(line, ticket("1", nil), 1_000_000)
      assert {:full, :cost, 1} = Line.promise(line, ticket("2", nil), 1)
    end

    test "one key cannot keep another out; nobody gets past twice the limit" do
      line = Line.new(limit: 4, budget_ms: 1_000)
      line = fill(line, "greedy")
      assert Line.size(line) == 4
      line = fill(line, "b")
      assert Line.size(line) == 6
      line = Enum.reduce(1..20, line, &fill(&2, "key#{&1}"))
      assert Line.size(line) == 8
    end

    test "a line that is closed to a key takes none of its jobs before somebody has left" do
      holds({list(operation()), list(operation())}, fn {operations, more} ->
        {line, model} = run(operations)
        closed = Enum.filter(@keys, &Line.closed?(line, &1))
        more = Enum.reject(more, &(&1 == :serve or elem(&1, 0) == :delete))
        {fuller, _model} = Enum.reduce(more, {line, model}, &step/2)

        for each <- [line, fuller], key <- closed, reduce: true do
          so_far ->
            so_far and match?({:full, :count, _}, Line.promise(each, ticket("new", key), 1))
        end
      end)
    end

    test "a line stays closed to a key whose promised job has become cheaper by the time it waits" do
      line = Line.new(limit: 4, budget_ms: 100)
      {:ok, line} = Line.promise(line, ticket("4", "c"), 34)
      line = Line.put(line, ticket("3", "c"), 29)
      line = Enum.reduce(["1", "2"], line, &Line.put(&2, ticket(&1, "a"), 1))
      line = Line.put(line, ticket("5", "b"), 1)
      assert Line.closed?(line, "c")
      assert line |> Line.put(ticket("4", "c"), 1) |> Line.closed?("c")
    end

    test "a line is closed to the keys that have their share of it, to no others" do
      line = Line.new(limit: 4, budget_ms: 1_000)
      refute Line.closed?(line, "greedy")
      line = fill(line, "greedy")
      assert Line.closed?(line, "greedy")
      refute Line.closed?(line, "b")
      line = fill(line, "b")
      assert Line.closed?(line, "b")
      line = Enum.reduce(1..20, line, &fill(&2, "key#{&1}"))
      assert Line.closed?(line, "new")
    end

    test "a line that is full of work only is closed to nobody" do
      line = Line.new(limit: 4, budget_ms: 10)
      {:ok, line} = Line.promise(line, ticket("1", nil), 9)
      assert {:full, :cost, 1} = Line.promise(line, ticket("2", nil), 2)
      refute Line.closed?(line, nil)
    end

    test "places and costs that are given back are free again" do
      holds(list(operation()), fn operations ->
        {line, model} = run(operations)
        ids = Map.keys(model.promised) ++ for {id, _, _} <- model.waiting, do: id
        Enum.reduce(ids, line, &Line.delete(&2, &1)) == %{new() | next: line.next}
      end)
    end
  end

  describe "estimated waits" do
    test "grow with the place and are never negative" do
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

    test "of a steady stream are what they are" do
      rate =
        Enum.reduce(1..50, Rate.blocked(Rate.new(), 0), fn n, rate ->
          Rate.departed(rate, n * 40)
        end)

      assert Rate.wait_ms(rate, 1) == 40
      assert Rate.wait_ms(rate, 10) == 400
    end

    test "do not count idle time" do
      rate = Rate.new() |> Rate.blocked(0) |> Rate.departed(10) |> Rate.idle()
      rate = rate |> Rate.blocked(1_000_000) |> Rate.departed(1_000_010)
      assert Rate.wait_ms(rate, 1) == 10
    end
  end

  describe "estimated costs" do
    test "are learned: what was measured again and again is what is expected" do
      schema = work_of(~w(steps width height))
      size = Cost.size(schema, %{"steps" => 12, "width" => 256, "height" => 256})
      work = {"image.generate", size}
      cost = Enum.reduce(1..5, Cost.new(), fn _, cost -> Cost.learn(cost, work, 700) end)
      assert Cost.estimate_ms(cost, work) == 700
      cost = Enum.reduce(1..60, cost, fn _, cost -> Cost.learn(cost, work, 70) end)
      assert Cost.estimate_ms(cost, work) in 70..75
    end

    test "grow with the size for sizes not seen yet, and tasks do not mix" do
      schema = work_of(~w(steps frames))
      work = &{"video.generate", Cost.size(schema, %{"steps" => 10, "frames" => &1})}
      cost = Cost.learn(Cost.new(), work.(16), 1_000)
      assert Cost.estimate_ms(cost, work.(64)) == 4_000
      assert Cost.estimate_ms(cost, work.(8)) == 500
      assert Cost.estimate_ms(cost, {"other", 0}) == 1_000
    end

    test "stay positive integers whatever is measured" do
      type = {list({integer(1, 10_000), integer(0, 100_000)}), integer(1, 10_000)}

      holds(type, fn {runs, steps} ->
        cost =
          Enum.reduce(runs, Cost.new(), fn {steps, ms}, cost ->
            Cost.learn(cost, {"t", Cost.size(work_of(~w(steps)), %{"steps" => steps})}, ms)
          end)

        estimate =
          Cost.estimate_ms(cost, {"t", Cost.size(work_of(~w(steps)), %{"steps" => steps})})

        is_integer(estimate) and estimate >= 1
      end)
    end
  end

  describe "news of positions" do
    test "come only when something changed, and not too often" do
      news = News.told(News.new(), "j", 5, 0)
      assert News.due(news, [{"j", 5}], 1_000, 10_000) == []
      assert News.due(news, [{"j", 4}], 1_000, 999) == []
      assert News.due(news, [{"j", 4}], 1_000, 1_000) == [{"j", 4}]
    end

    test "of those far behind come when a tenth of the way is done, of the first ten always" do
      news = News.told(News.new(), "j", 200, 0)
      assert News.due(news, [{"j", 181}], 1_000, 10_000) == []
      assert News.due(news, [{"j", 180}], 1_000, 10_000) == [{"j", 180}]
      for told <- 2..10, do: assert([_due] = due_after(told, told - 1))

      # All the way from the 256th place, one step a second.
      {_news, count} =
        Enum.reduce(255..1, {News.told(News.new(), "j", 256, 0), 1}, fn position, {news, count} ->
          now = (256 - position) * 1_000
          due = News.due(news, [{"j", position}], 1_000, now)

          {if(due == [], do: news, else: News.told(news, "j", position, now)),
           count + length(due)}
        end)

      assert count in 20..60
    end

    test "of a whole day of changing positions are less than a thousand" do
      {_news, count} =
        Enum.reduce(1..86_400, {News.told(News.new(), "j", 1, 0), 1}, fn second, {news, count} ->
          position = rem(second, 97) + 2

          case News.due(news, [{"j", position}], 1_000, second * 1_000) do
            [] -> {news, count}
            [_due] -> {News.told(news, "j", position, second * 1_000), count + 1}
          end
        end)

      assert count in 100..999
    end
  end

  defp due_after(told, position) do
    News.new() |> News.told("j", told, 0) |> News.due([{"j", position}], 1_000, 1_000)
  end

  # --- running operations on a line and on a model of it

  defp new, do: Line.new(limit: @limit, budget_ms: 100, weights: @weights)
  defp ticket(id, key, class \\ :interactive)

  defp ticket(id, key, class),
    do: %Ticket{id: id, key: key, class: class, work: {"t", 0}}

  defp run(operations) do
    model = %{promised: %{}, waiting: [], unbidden: 0}
    Enum.reduce(operations, {new(), model}, &step/2)
  end

  defp step({:promise, id, key, cost}, {line, model}) do
    if known?(model, id) do
      {line, model}
    else
      case Line.promise(line, ticket(id, key), cost) do
        {:ok, line} -> {line, put_in(model.promised[id], key)}
        {:full, _bound, jobs} when jobs >= 1 -> {line, model}
      end
    end
  end

  defp step({:put, id, key, class, cost}, {line, model}) do
    if List.keymember?(model.waiting, id, 0) do
      {line, model}
    else
      key = Map.get(model.promised, id, key)
      unbidden = if is_map_key(model.promised, id), do: 0, else: 1
      waiting = model.waiting ++ [{id, key, class}]
      promised = Map.delete(model.promised, id)

      {Line.put(line, ticket(id, key, class), cost),
       %{model | promised: promised, waiting: waiting, unbidden: model.unbidden + unbidden}}
    end
  end

  defp step({:delete, id}, {line, model}) do
    waiting = List.keydelete(model.waiting, id, 0)
    promised = Map.delete(model.promised, id)
    {Line.delete(line, id), %{model | promised: promised, waiting: waiting}}
  end

  defp step(:serve, {line, model}) do
    case next(line) do
      {:ok, id} ->
        {Line.serve(line, id), %{model | waiting: List.keydelete(model.waiting, id, 0)}}

      :empty ->
        {line, model}
    end
  end

  defp known?(model, id) do
    is_map_key(model.promised, id) or List.keymember?(model.waiting, id, 0)
  end

  defp flows(model) do
    Enum.group_by(
      model.waiting,
      fn {_id, key, class} ->
        {class, if(class in [:apart, :alone, :again], do: nil, else: key)}
      end,
      &elem(&1, 0)
    )
  end

  defp work_of(names), do: %{"properties" => Map.new(names, &{&1, %{"x-work" => true}})}

  defp class(model, id), do: model.waiting |> List.keyfind(id, 0) |> elem(2)

  defp next(line) do
    with :empty <- Line.first(line, :apart),
         :empty <- Line.first(line, :alone),
         do: Line.first(line)
  end

  defp serve(line) do
    {:ok, id} = next(line)
    Line.serve(line, id)
  end

  defp departures(line) do
    case next(line) do
      {:ok, id} -> [id | departures(Line.serve(line, id))]
      :empty -> []
    end
  end

  defp full_line(jobs, weights) do
    line = Line.new(limit: 1_000, budget_ms: 1_000, weights: weights)

    for {key, count} <- jobs, n <- 1..count, reduce: line do
      line -> Line.put(line, ticket("#{key}-#{n}", key), 1)
    end
  end

  defp count_keys(ids), do: Enum.frequencies_by(ids, &hd(String.split(&1, "-")))

  # Jobs of a key until it is refused.
  defp fill(line, key) do
    id = "#{key}-#{System.unique_integer()}"

    case Line.promise(line, ticket(id, key), 1) do
      {:ok, line} -> line |> Line.put(ticket(id, key), 1) |> fill(key)
      {:full, :count, _jobs} -> line
    end
  end

  defp operation do
    id = map(integer(1, 12), &"job_#{&1}")
    class = one_of([:apart, :alone, :again, :interactive, :interactive, :interactive, :batch])
    cost = integer(1, 60)
    put = {:put, id, one_of(@keys), class, cost}
    one_of([put, put, put, {:promise, id, one_of(@keys), cost}, {:delete, id}, :serve])
  end
end
