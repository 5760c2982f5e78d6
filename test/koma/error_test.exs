defmodule Koma.ErrorTest do
  use ExUnit.Case, async: true

  alias Koma.Error

  test "a code that is not in errors.json cannot be used" do
    assert_raise ArgumentError, fn -> Error.new("oops", "message") end
  end

  test "clients get the fields that are set, and huge values cut short" do
    error =
      Error.new("wrong_type", "no", field: "prompt", value: String.duplicate("x", 1_000_000))

    assert %{"code" => "wrong_type", "message" => "no", "field" => "prompt", "value" => value} =
             map = Error.to_map(error)

    assert map_size(map) == 4
    assert String.length(value) == 201

    assert Error.to_map(Error.new("wrong_type", "no", value: %{deep: Enum.to_list(1..1000)}))[
             "value"
           ]
           |> String.length() < 300
  end

  test "every code has a status that HTTP knows" do
    for {code, _entry} <- Error.codes(), do: assert(Error.status(code) in 400..599)
  end
end
