defmodule Koma.Pipeline.ReferenceTest do
  use ExUnit.Case, async: true

  alias Koma.Pipeline.Reference

  @value %{
    "a" => %{"from" => "caption.text"},
    "b" => [1, %{"c" => %{"from" => "input.video"}}],
    "d" => %{"from" => "here", "to" => "there"}
  }

  test "references are found at any depth, with their paths" do
    assert {:ok, found} = Reference.find(@value, "params")

    assert Enum.sort(found) == [
             {"params.a", {:stage, "caption", "text"}},
             {"params.b[1].c", {:input, "video"}}
           ]
  end

  test "references are replaced and all else stays" do
    lookup = fn
      {:stage, "caption", "text"}, "params.a" -> {:ok, "a cat"}
      {:input, "video"}, "params.b[1].c" -> {:ok, 7}
    end

    assert Reference.replace(@value, "params", lookup) ==
             {:ok, %{"a" => "a cat", "b" => [1, %{"c" => 7}], "d" => @value["d"]}}
  end

  test "an empty list stays one" do
    assert Reference.replace(%{"a" => []}, "p", fn _, _ -> :never end) == {:ok, %{"a" => []}}
  end

  test "malformed references are errors with their path" do
    for from <- ["caption", "caption.", ".text", "a.b.c", "", "input."] do
      assert {:error, %{code: "invalid_value", field: "params.x.from", value: ^from}} =
               Reference.find(%{"x" => %{"from" => from}}, "params")
    end

    assert {:error, %{code: "wrong_type", field: "params.from"}} =
             Reference.find(%{"from" => 1}, "params")
  end
end
