defmodule Koma.Store.RetentionTest do
  use ExUnit.Case, async: true

  alias Koma.Store.Retention

  @sizes %{"a" => 10, "b" => 20, "c" => 30, "shared" => 40}

  test "jobs that ended before the bound are too old, those at it are not" do
    jobs = [{1, "one", []}, {2, "two", []}, {3, "three", []}]
    assert {[{1, "one", []}], [{2, _, _}, {3, _, _}]} = Retention.too_old(jobs, 2)
  end

  test "the oldest go first, and only as many as must" do
    jobs = [{1, "one", ["a"]}, {2, "two", ["b"]}, {3, "three", ["c"]}]
    assert Retention.too_large(jobs, [], @sizes, 60) == []
    assert [{1, "one", _}] = Retention.too_large(jobs, [], @sizes, 59)
    assert [{1, "one", _}, {2, "two", _}] = Retention.too_large(jobs, [], @sizes, 30)
    assert length(Retention.too_large(jobs, [], @sizes, 0)) == 3
  end

  test "an artifact counts once, and its bytes are free when the last job that names it goes" do
    jobs = [{1, "one", ["shared"]}, {2, "two", ["shared"]}, {3, "three", ["a"]}]
    assert Retention.too_large(jobs, [], @sizes, 50) == []
    assert [{1, "one", _}, {2, "two", _}] = Retention.too_large(jobs, [], @sizes, 49)
  end

  test "what live jobs need is never freed, and jobs without artifacts are not worth forgetting" do
    jobs = [{1, "text", []}, {2, "one", ["shared"]}, {3, "two", ["shared", "shared"]}]
    assert [{2, "one", _}, {3, "two", _}] = Retention.too_large(jobs, ["shared"], @sizes, 10)
  end

  test "an artifact whose file is gone counts nothing" do
    assert Retention.too_large([{1, "one", ["gone"]}], ["gone"], @sizes, 0) == []
  end
end
