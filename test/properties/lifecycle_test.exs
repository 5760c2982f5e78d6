defmodule Koma.Properties.LifecycleTest do
  use ExUnit.Case, async: true

  import Koma.Properties
  alias Koma.Job.{Event, Lifecycle, Record}

  test "nothing happens after the end, and every other state can end" do
    for state <- Lifecycle.states(), event <- Lifecycle.events() do
      if Lifecycle.terminal?(state), do: assert(Lifecycle.next(state, event) == :error)
    end

    for state <- Lifecycle.states(),
        not Lifecycle.terminal?(state),
        ending <- ~w(failed cancelled expired) do
      assert Lifecycle.next(state, ending) == {:ok, ending}
    end
  end

  test "whatever events are tried, a job has one ending, gapless numbers and a known state" do
    holds(list(one_of(Lifecycle.events())), fn types ->
      {record, events} = Enum.reduce(types, {record(), []}, &try_event/2)
      endings = Enum.count(events, &Lifecycle.terminal?(&1.type))

      record.state in Lifecycle.states() and
        Enum.map(events, & &1.seq) == Enum.to_list(1..length(events)//1) and
        record.seq == length(events) and
        endings == if(Record.ended?(record), do: 1, else: 0) and
        Enum.reduce(events, record(), &Record.apply(&2, &1)) == record
    end)
  end

  test "an event that leaves out a number, or is not allowed, changes nothing and raises" do
    event = %Event{seq: 2, type: "queued", at: 0, data: %{}}
    assert_raise FunctionClauseError, fn -> Record.apply(record(), event) end

    assert_raise MatchError, fn ->
      Record.apply(record(), %{event | seq: 1, type: "started"})
    end
  end

  defp try_event(type, {record, events}) do
    case Lifecycle.next(record.state, type) do
      {:ok, _state} ->
        event = %Event{
          seq: record.seq + 1,
          type: type,
          at: 1,
          data: %{"attempt" => 1, "code" => "node_crashed"}
        }

        {Record.apply(record, event), events ++ [event]}

      :error ->
        {record, events}
    end
  end

  defp record, do: %Record{id: "job_1", task: "toy.run", model: "toy", created_at: 0}
end
