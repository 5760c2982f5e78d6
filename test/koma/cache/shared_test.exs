defmodule Koma.Cache.SharedTest do
  use Koma.CoreCase, async: false

  import ExUnit.CaptureLog

  alias Koma.Cache.Shared
  alias Koma.{Redis, RedisServer}

  @seeded %{"steps" => 4, "seed" => 7}

  setup %{dir: dir} do
    {:ok, server: RedisServer.start(Path.join(dir, "redis"))}
  end

  test "a gateway answers at once with the result that another one computed", c do
    start(c, "one")
    first = run(@seeded)
    eventually(fn -> RedisServer.ask!(c.server, ~w(ZCARD koma:results)) == "1" end)
    stop_core()

    start(c, "two")
    hit = submit!(@seeded)
    assert %{"state" => "completed", "cached" => true, "seed" => 7} = hit
    assert hit["outputs"] == first["outputs"]
    assert [%{seq: 1, type: "completed"}] = await_end(hit["id"])
    # It is one of its own from now on.
    capture_log(fn -> RedisServer.kill(c.server) end)
    assert {:ok, _result} = Koma.Cache.fetch(fingerprint(hit["id"]))
  end

  test "a result whose artifacts are not here is computed anew", c do
    start(c, "one")
    output = %{"name" => "result", "artifact" => String.duplicate("a", 64), "bytes" => 1}
    first = run(@seeded)
    # The result itself has been kept: nothing takes the place of what comes now.
    eventually(fn -> RedisServer.ask!(c.server, ~w(ZCARD koma:results)) == "1" end)
    Shared.keep(fingerprint(first["id"]), %{outputs: [output], seed: 7}, 1)
    name = Base.encode16(fingerprint(first["id"]), case: :lower)

    eventually(fn ->
      RedisServer.ask!(c.server, ["GET", "koma:result:" <> name]) =~ String.duplicate("a", 64)
    end)

    stop_core()
    start(c, "two")
    again = run(@seeded)
    refute again["cached"]
    assert again["outputs"] == first["outputs"]
  end

  test "beyond its bytes those results go that were not asked for the longest", c do
    start(c, "one", cache_bytes: 1_000)
    keep = fn n -> Redis.command(Redis.script(:keep, ["f#{n}", "result #{n}", 400, 1_000])) end
    find = fn n -> Redis.command(Redis.script(:find, ["f#{n}"])) end
    for n <- 1..2, do: assert(keep.(n) == {:ok, "ok"})
    later()
    assert find.(1) == {:ok, "result 1"}
    later()
    assert keep.(3) == {:ok, "ok"}
    assert find.(2) == {:ok, nil}
    assert find.(1) == {:ok, "result 1"}
    # The same again takes its place anew; what is larger than all is not kept.
    assert keep.(3) == {:ok, "ok"}
    assert RedisServer.ask!(c.server, ~w(GET koma:results:total)) == "800"
    assert Redis.command(Redis.script(:keep, ["f4", "x", 1_001, 1_000])) == {:ok, "too large"}
    assert find.(4) == {:ok, nil}
    assert RedisServer.ask!(c.server, ~w(HLEN koma:results:bytes)) == "2"
  end

  test "while Redis hangs nothing is found, nobody waits for long, and nothing is wrong", c do
    start(c, "one", redis_timeout_ms: 100)

    capture_log(fn ->
      RedisServer.hang(c.server)
      assert Shared.find(:crypto.hash(:sha256, "x")) == :miss
      eventually(fn -> Shared.find(:crypto.hash(:sha256, "x")) == :miss and not Redis.up?() end)
      # It is not asked: half of its timeout is far more than that takes.
      find = fn -> Shared.find(:crypto.hash(:sha256, "x")) end
      tries = for _ <- 1..5, do: :timer.tc(find)
      assert {micros, :miss} = Enum.min(tries)
      assert micros < 50_000
      RedisServer.go_on(c.server)
      # The store finds out a moment later.
      eventually(fn -> match?({:ok, _job}, Koma.submit(%{"task" => "toy.run"}, %Caller{})) end)
    end)

    refute run(@seeded)["cached"]
    # On a busy machine an answer may take longer than the 100 ms: then it runs once more.
    eventually(fn -> submit!(@seeded)["cached"] end)
  end

  defp start(c, name, overrides \\ []) do
    defaults = [redis: RedisServer.url(c.server), lease_ms: 1_000, share_results: true]
    start_core(Path.join(c.dir, name), Keyword.merge(defaults, overrides))
  end

  # Redis counts the age of a result in ms.
  defp later do
    receive do
    after
      5 -> :ok
    end
  end

  defp fingerprint(id) do
    {:ok, record} = Koma.Store.Jobs.fetch(id)
    record.fingerprint
  end

  defp run(params) do
    id = submit!(params)["id"]
    await_end(id)
    {:ok, job} = Koma.job(id, %Caller{})
    job
  end
end
