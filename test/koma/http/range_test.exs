defmodule Koma.HTTP.RangeTest do
  use ExUnit.Case, async: true
  doctest Koma.HTTP.Range

  import Koma.Properties

  alias Koma.HTTP.Range

  test "the forms of a single range" do
    assert Range.parse("bytes=0-0", 10) == {:ok, {0, 1}}
    assert Range.parse("bytes=0-", 10) == {:ok, {0, 10}}
    assert Range.parse("bytes=9-", 10) == {:ok, {9, 1}}
    assert Range.parse("bytes=5-99", 10) == {:ok, {5, 5}}
    assert Range.parse("bytes=-99", 10) == {:ok, {0, 10}}
    assert Range.parse("Bytes= 1-2", 10) == {:ok, {1, 2}}
  end

  test "beyond the end nothing can be served" do
    for header <- ["bytes=10-", "bytes=10-20", "bytes=-0"] do
      assert Range.parse(header, 10) == :unsatisfiable
    end

    assert Range.parse("bytes=-5", 0) == :unsatisfiable
    assert Range.parse("bytes=0-", 0) == :unsatisfiable
  end

  test "what is no single range of bytes is ignored" do
    for header <- [
          nil,
          "",
          "bytes",
          "bytes=-",
          "bytes=5-2",
          "bytes=a-b",
          "bytes=0-1,3-4",
          "items=0-1",
          "bytes=--1",
          "bytes=0-1\n",
          "bytes=" <> String.duplicate("9", 1000) <> "-"
        ] do
      assert Range.parse(header, 10) == :whole
    end
  end

  test "a part always lies within the body" do
    numbers = {integer(0, 40), integer(0, 40), integer(0, 30)}

    assert holds(numbers, fn {first, last, size} ->
             case Range.parse("bytes=#{first}-#{last}", size) do
               {:ok, {offset, length}} -> length > 0 and offset + length <= size
               :unsatisfiable -> first >= size
               :whole -> last < first
             end
           end)
  end
end
