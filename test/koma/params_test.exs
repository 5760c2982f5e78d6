defmodule Koma.ParamsTest do
  use ExUnit.Case, async: true

  alias Koma.Params

  @table %{
    "id" => {:string, :required},
    "after" => {{:integer, 0}, 0},
    "limit" => {{:integer, 1, 9}, 5},
    "form" => {{:one_of, ["a", "b"]}, "a"},
    "more" => {:object, %{}},
    "list" => {:list, nil}
  }

  test "absent and null fields get their defaults" do
    assert Params.check(%{"id" => "x", "after" => nil}, @table) ==
             {:ok,
              %{
                "id" => "x",
                "after" => 0,
                "limit" => 5,
                "form" => "a",
                "more" => %{},
                "list" => nil
              }}
  end

  test "both sides of every bound" do
    for {field, value, result} <- [
          {"after", 0, :ok},
          {"after", -1, "out_of_bounds"},
          {"limit", 1, :ok},
          {"limit", 9, :ok},
          {"limit", 0, "out_of_bounds"},
          {"limit", 10, "out_of_bounds"},
          {"form", "b", :ok},
          {"form", "c", "invalid_value"}
        ] do
      case Params.check(%{"id" => "x", field => value}, @table) do
        {:ok, checked} ->
          assert {result, checked[field]} == {:ok, value}

        {:error, error} ->
          assert {error.code, error.field, error.value} == {result, field, value}
          assert error.bound
      end
    end
  end

  test "wrong types are named" do
    for {field, value} <- [
          {"id", 1},
          {"after", "1"},
          {"after", 1.5},
          {"limit", true},
          {"form", []},
          {"more", "x"},
          {"list", %{}}
        ] do
      given = Map.merge(%{"id" => "x"}, %{field => value})
      assert {:error, %{code: "wrong_type", field: ^field}} = Params.check(given, @table)
    end
  end

  test "unknown fields are told with the nearest known one, missing ones by name" do
    assert {:error, error} = Params.check(%{"id" => "x", "afetr" => 1}, @table)
    assert %{code: "unknown_field", field: "afetr"} = error
    assert error.message =~ ~s("after")
    assert {:error, %{code: "missing_field", field: "id"}} = Params.check(%{}, @table)
    assert {:error, %{code: "unknown_field"}} = Params.check(%{"x" => 1}, %{})
  end

  test "a name as long as a frame is not told back whole" do
    assert {:error, error} = Params.check(%{String.duplicate("x", 100_000) => 1}, @table)
    assert byte_size(error.field) + byte_size(error.message) < 500
  end

  test "what is no object is refused, bytes too" do
    for given <- [nil, [], 1, "{}", {:binary, "{}"}] do
      assert {:error, %{code: "wrong_type", field: "payload"}} = Params.check(given, @table)
    end
  end

  test "a query string has integers only where the table wants them" do
    assert Params.from_query(%{"limit" => "7", "id" => "7", "after" => "7x"}, @table) ==
             %{"limit" => 7, "id" => "7", "after" => "7x"}
  end
end
