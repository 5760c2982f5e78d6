defmodule Koma.Soak.ClusterTest do
  use Koma.ClusterCase, async: false

  alias Koma.{ClusterStorm, Storm}

  @moduletag :soak
  @moduletag timeout: 3_600_000

  test "1,000 jobs while a peer is killed every 30 s, gateways with followers among them, and the network is cut for 20 s: each is answered once",
       context do
    times = [every_ms: 30_000, down_ms: 5_000, cut_ms: 20_000]
    times = for {what, ms} <- times, do: {what, Storm.scaled(ms)}
    # 4 s each: long enough for every peer to be killed, and cut off, while there are jobs.
    assert ClusterStorm.run(context, Storm.scaled(1_000), [steps: 80] ++ times) == []
  end

  test "throughput of a toy model that sleeps, on one peer, two and three", context do
    names = names(context, ~w(a b c))
    models = [models: [toy(%{slots: 2})], queue_limit: 1_000]

    for count <- 1..3, reduce: [] do
      peers ->
        role = if peers == [], do: [:gateway, :worker], else: [:worker]
        peers = peers ++ [start_peer(context, names, count - 1, [roles: role] ++ models)]
        await_cluster(peers, count)
        begun = System.monotonic_time(:millisecond)

        ids =
          for seed <- 1..60,
              do: submit!(hd(peers), %{"steps" => 5, "step_ms" => 200, "seed" => seed})["id"]

        for id <- ids, do: await_end(hd(peers), id)
        took = System.monotonic_time(:millisecond) - begun
        IO.puts("#{count} peers: #{Float.round(60_000 / took, 2)} jobs/s")
        peers
    end
  end
end
