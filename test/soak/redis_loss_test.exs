defmodule Koma.Soak.RedisLossTest do
  use Koma.CoreCase, async: false

  import ExUnit.CaptureLog
  import Koma.RedisDamage

  alias Koma.{RedisServer, Storm}

  @moduletag :soak
  @moduletag timeout: 3_600_000
  @callers 8
  @seeds 20

  test "4,000 jobs while a Redis that stays up loses keys, all of them, its scripts, and has keys damaged: each is answered once",
       %{dir: dir} do
    server = RedisServer.start(Path.join(dir, "redis"))
    start_core(dir, redis: RedisServer.url(server), lease_ms: 1_000, collect_ms: 1_000)
    each = div(Storm.scaled(4_000), @callers) + 1
    undisturbed = for seed <- 1..@seeds, into: %{}, do: {seed, digest(await_end(insist(seed)))}

    {stories, _log} =
      with_log(fn ->
        storm = spawn_link(fn -> disturb(%{server: server}) end)

        stories =
          1..@callers
          |> Enum.map(fn _ -> Task.async(fn -> for _ <- 1..each, do: story() end) end)
          |> Task.await_many(:infinity)
          |> List.flatten()

        Process.unlink(storm)
        Process.exit(storm, :kill)
        stories
      end)

    assert length(stories) == each * @callers

    wrong =
      for {seed, events} <- stories, fault = Storm.fault(events, undisturbed[seed]), do: fault

    assert wrong == []
  end

  defp story do
    seed = :rand.uniform(@seeds)
    {seed, await_end(insist(seed), 60_000)}
  end

  defp insist(seed) do
    params = %{"steps" => 6, "step_ms" => 5, "seed" => seed}

    case Koma.submit(%{"task" => "toy.run", "params" => params}, %Caller{}) do
      {:ok, job} ->
        job["id"]

      {:error, %{code: code, retry_after_ms: ms}} when code in ~w(unavailable overloaded) ->
        Process.sleep(ms)
        insist(seed)
    end
  end

  defp disturb(c) do
    Process.sleep(:rand.uniform(200))

    case :rand.uniform(10) do
      1 -> ask(c, ~w(FLUSHALL))
      2 -> ask(c, ~w(SCRIPT FLUSH))
      n when n < 7 -> lose(c.server, ["koma:*"])
      _damage -> damage(c, live(c.server), Enum.random(hash_damages() ++ event_damages()))
    end

    disturb(c)
  end

  defp damage(_c, [], _damage), do: :ok
  defp damage(c, ids, {_what, damage}), do: damage.(&ask(c, &1), Enum.random(ids))
end
