defmodule Koma.ShownTest do
  use ExUnit.Case, async: true

  alias Koma.{Error, Params, Schema, Shown}

  # Every kind of term that JSON, a form or a socket can bring into an answer.
  @values [
    %{},
    %{"a" => [1, nil]},
    [],
    ["a"],
    ~c"ab",
    nil,
    true,
    :atom,
    <<97, 0>>,
    <<255, 254>>,
    {:binary, <<1, 2>>},
    1.0e-38,
    -0.0,
    3.0,
    1.0e308,
    Integer.pow(10, 399),
    String.duplicate("é", 100_000)
  ]

  test "no form of a value is Elixir's own, and none is long" do
    for value <- @values, shown <- [Shown.text(value), Shown.value(value)] do
      text = if is_binary(shown), do: shown, else: Koma.JSON.encode!(shown)
      refute text =~ ~r/%\{|<<|=>|\bnil\b|:atom|~c/, text
      assert String.length(text) <= 210
      assert String.valid?(text)
    end
  end

  test "numbers, text, lists and objects are shown as people write them" do
    shown =
      for value <- [3.0, 0.5, 1.0e-38, 7, "a\0", ["a"], %{}, nil, <<255>>], do: Shown.text(value)

    assert shown ==
             [
               "3",
               "0.5",
               "1e-38",
               "7",
               ~S("a\u0000"),
               ~S(["a"]),
               "{}",
               "null",
               "1 byte that is no text"
             ]

    assert Shown.text(Integer.pow(10, 399)) == "a number of 400 digits"
  end

  test "an answer tells any value that was sent without a term of Elixir" do
    schema = %{"type" => "object", "properties" => %{"a" => %{"type" => "boolean"}}}

    for value <- @values, not is_boolean(value) do
      {:error, %Error{} = error} = Schema.check(schema, %{"a" => value})

      {:error, %Error{} = other} =
        Params.check(%{"a" => value || []}, %{"a" => {{:integer, 5, 6}, 5}})

      text = Koma.JSON.encode!([Error.to_map(error), Error.to_map(other)])
      refute text =~ ~r/%\{|<<|=>|:atom/, text
      assert String.length(text) < 1_000
    end
  end

  test "who names a field where none is taken is told so, without an empty list" do
    schema = %{"type" => "object", "properties" => %{}, "additionalProperties" => false}
    {:error, error} = Schema.check(schema, %{"x" => 1})
    assert error.message == ~s(There is no field "x"; none is taken here)
  end

  test "a number in the gap between 0 and the least one is refused with the bound, however small" do
    gap = %{"exclusiveMinimum" => 0, "exclusiveMaximum" => 0.01}
    number = %{"type" => "number", "minimum" => 0, "maximum" => 5, "not" => gap}
    schema = %{"type" => "object", "properties" => %{"heat" => number}}

    for value <- [1.0e-38, 5.0e-324, 0.0099] do
      {:error, error} = Schema.check(schema, %{"heat" => value})
      assert {error.code, error.field, error.bound} == {"out_of_bounds", "heat", 0.01}
      assert error.message =~ "heat must be 0 or at least 0.01, not "
    end

    for value <- [0, 0.0, -0.0, 0.01, 5],
        do: assert({:ok, _} = Schema.check(schema, %{"heat" => value}))

    assert {:error, %{bound: 5}} = Schema.check(schema, %{"heat" => Integer.pow(10, 399)})
  end

  test "why something of the runtime broke is told in words" do
    assert Shown.reason(:noconnection) == "noconnection"
    assert Shown.reason({:shutdown, %{a: 1}}) == "shutdown"
    assert Shown.reason([1, 2]) =~ "its log says more"
  end
end
