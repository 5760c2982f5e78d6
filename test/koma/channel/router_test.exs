defmodule Koma.Channel.RouterTest do
  use ExUnit.Case, async: true
  doctest Koma.Channel.Router

  alias Koma.Channel.Router

  test "names of no topic are refused, a missing id too" do
    for topic <- ["", "job", "job:", "pipeline:", "jobs:1", "room:lobby", "phoenix", "JOBS"] do
      assert {:error, %{code: "unknown_topic", field: "topic", value: ^topic}} =
               Router.route(topic)
    end
  end

  test "an id may hold colons" do
    assert Router.route("job:a:b") == {:ok, Koma.Channel.Events, {:job, "a:b"}}
  end
end
