defmodule Koma.JSONTest do
  use ExUnit.Case, async: true

  alias Koma.JSON

  test "objects become maps with string keys, null becomes nil, and back" do
    value = %{"a" => nil, "b" => [1, 2.5, true, "é"], "c" => %{}}
    assert JSON.decode(JSON.encode!(value)) == {:ok, value}
  end

  test "of repeated names the last one counts" do
    assert JSON.decode(~s({"a":1,"a":2})) == {:ok, %{"a" => 2}}
  end

  test "text that is not JSON is refused with the position of the first wrong byte" do
    for {text, position} <- [{"", 1}, {"{", 2}, {"{\"a\":NaN}", 6}, {"1 2", 3}, {"[Infinity]", 2}] do
      assert {:error, error} = JSON.decode(text)
      assert %{code: "invalid_json", value: ^position} = error
      assert error.message =~ "at byte #{position}"
    end
  end

  test "strings that are not UTF-8 and numbers beyond a double are refused" do
    for text <- [<<?", 255, ?">>, ~s("\\ud800"), "[1e400]"] do
      assert {:error, %{code: "invalid_json"}} = JSON.decode(text)
    end
  end

  test "nesting is bounded on both sides of the limit" do
    depth = JSON.max_depth()
    nested = fn n -> String.duplicate("[", n) <> String.duplicate("]", n) end
    assert {:ok, _} = JSON.decode(nested.(depth))
    assert {:error, %{code: "invalid_json", bound: ^depth}} = JSON.decode(nested.(depth + 1))
    assert {:error, %{code: "invalid_json"}} = JSON.decode(nested.(200_000))
  end

  test "a number of a megabyte is refused at once and not computed" do
    digits = JSON.max_digits()
    assert {:ok, _} = JSON.decode(String.duplicate("9", digits))
    assert {:error, %{bound: ^digits}} = JSON.decode(String.duplicate("9", digits + 1))

    {microseconds, result} =
      :timer.tc(fn -> JSON.decode(["[\"x\\\"\",", String.duplicate("9", 1_000_000), "]"]) end)

    assert {:error, %{code: "invalid_json"}} = result
    assert microseconds < 5_000_000
  end

  test "a number that is too long is found wherever it stands" do
    long = String.duplicate("1", JSON.max_digits() + 1)

    for before <- [0, 1, 399, 400, 401, 402, 803, 5_000] do
      text = ["[", String.duplicate(" ", before), long, "]"]
      assert {:error, %{code: "invalid_json", bound: 400}} = JSON.decode(text)
    end

    numbers = Enum.map_join(1..50, ",", fn _n -> String.duplicate("1", JSON.max_digits()) end)
    assert {:ok, _numbers} = JSON.decode("[" <> numbers <> "]")
  end

  test "digits inside of strings are not numbers" do
    digits = String.duplicate("7", 10_000)
    assert JSON.decode(~s(["\\"#{digits}", 1])) == {:ok, ["\"" <> digits, 1]}
  end

  test "looking for long numbers takes no memory that grows with the number of strings" do
    digits = String.duplicate("7", JSON.max_digits() + 1)
    text = ["[\"", digits, "\"", String.duplicate(~s(,""), 2_000_000), "]"]
    text = IO.iodata_to_binary(text)
    # The value itself takes some 80 MB.
    limit = %{size: div(300 * 1024 * 1024, :erlang.system_info(:wordsize)), kill: true}
    decode = fn -> exit({:read, match?({:ok, [^digits | _]}, JSON.decode(text))}) end
    {pid, monitor} = :erlang.spawn_opt(decode, [:monitor, max_heap_size: limit])
    assert_receive {:DOWN, ^monitor, :process, ^pid, {:read, true}}, 60_000
  end

  test "a text that must be an object is refused when it is something else" do
    assert {:ok, %{}} = JSON.decode_object("{}")
    assert {:error, %{code: "invalid_request"}} = JSON.decode_object("[]")
    assert {:error, %{code: "invalid_json"}} = JSON.decode_object("[")
  end
end
