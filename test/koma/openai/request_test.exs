defmodule Koma.OpenAI.RequestTest do
  use ExUnit.Case, async: true

  doctest Koma.OpenAI.Request

  test "the size auto, or none, is that of the model; anything else is refused by its name" do
    for size <- [nil, "", "auto"], do: assert(Koma.OpenAI.Request.size(size) == {:ok, nil})

    for size <- ["64", "64x", "x64", "-1x2", "64X64", "1x1x1", 64, %{}] do
      assert {:error, %{code: "invalid_value", field: "size"}} = Koma.OpenAI.Request.size(size)
    end
  end
end
