defmodule Koma.Cluster.OwnerTest do
  use ExUnit.Case, async: true

  import Koma.Properties
  alias Koma.Cluster.Owner

  doctest Owner

  test "an id with the tag of a peer is that peer's; every other shape is nobody's" do
    peers = for n <- 1..50, do: :"koma@10.0.0.#{n}"
    assert peers |> Enum.map(&Owner.tag/1) |> Enum.uniq() |> length() == 50

    holds({integer(1, 50), integer(0, 1_000_000)}, fn {n, random} ->
      peer = Enum.at(peers, n - 1)
      id = "job_" <> Owner.tag(peer) <> Base.encode32("#{random}", case: :lower, padding: false)
      Owner.of(id, peers) == peer and Owner.of(id, peers -- [peer]) == nil
    end)

    for id <- ["", "job", "job_", "job_abc", "_", "pl_" <> Owner.tag(hd(peers)), <<255, "_", 0>>] do
      assert Owner.of(id, peers) == nil
    end
  end
end
