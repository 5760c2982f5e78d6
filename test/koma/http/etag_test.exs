defmodule Koma.HTTP.ETagTest do
  use ExUnit.Case, async: true

  alias Koma.HTTP.ETag

  test "If-None-Match: lists, weak tags and the star match" do
    tag = ETag.of("ab")
    assert tag == ~s("ab")

    for header <- [~s("ab"), ~s(W/"ab"), ~s("x", "ab"), "*", ~s("x" ,W/"ab")] do
      assert ETag.listed?(header, tag)
    end

    for header <- [nil, "", ~s("x"), "ab", ~s("abc")], do: refute(ETag.listed?(header, tag))
  end

  test "If-Range: only the strong tag itself lets a range through" do
    assert ETag.range_valid?(nil, ~s("ab"))
    assert ETag.range_valid?(~s("ab"), ~s("ab"))
    refute ETag.range_valid?(~s(W/"ab"), ~s("ab"))
    refute ETag.range_valid?("Mon, 23 Nov 2026 23:17:53 GMT", ~s("ab"))
  end
end
