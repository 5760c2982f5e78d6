defmodule Koma.Cache.FingerprintTest do
  use ExUnit.Case, async: true

  alias Koma.Cache.Fingerprint

  defp of(changes) do
    base = %{task: "toy.run", checkpoint: "toy/1", params: %{"a" => 1, "b" => "x"}, inputs: %{}}

    %{task: task, checkpoint: checkpoint, params: params, inputs: inputs} =
      Map.merge(base, changes)

    Fingerprint.of(task, checkpoint, params, inputs)
  end

  test "the order of names does not matter, and a number is the same however it is written" do
    many = Map.new(1..100, &{"name#{&1}", &1})
    same = 100..1 |> Enum.map(&{"name#{&1}", &1 / 1}) |> Map.new()
    assert of(%{params: many}) == of(%{params: same})
  end

  test "whatever differs makes another fingerprint" do
    changes = [
      %{},
      %{task: "toy.ran"},
      %{checkpoint: "toy/2"},
      %{inputs: %{"file" => "ab"}},
      %{inputs: %{"b" => "x"}},
      %{params: %{"a" => 2, "b" => "x"}},
      %{params: %{"a" => 1.5, "b" => "x"}},
      %{params: %{"a" => "1", "b" => "x"}},
      %{params: %{"a" => true, "b" => "x"}},
      %{params: %{"a" => nil, "b" => "x"}},
      %{params: %{"a" => "null", "b" => "x"}},
      %{params: %{"a" => 1}},
      %{params: %{"a" => [1], "b" => "x"}},
      %{params: %{"a" => %{"1" => 1}, "b" => "x"}},
      %{params: %{"a" => 1, "b" => "x", "c" => nil}},
      # Names and values that would run into one another without their lengths.
      %{params: %{"ab" => "c"}},
      %{params: %{"a" => "bc"}},
      %{params: %{"a" => ["b", "c"]}},
      %{params: %{"a" => ["bc"]}},
      %{params: %{"a" => [["b"], "c"]}}
    ]

    fingerprints = Enum.map(changes, &of/1)
    assert Enum.uniq(fingerprints) == fingerprints
  end
end
