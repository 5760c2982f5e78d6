defmodule Koma.Job.RetryTest do
  use ExUnit.Case, async: true

  alias Koma.Error
  alias Koma.Job.{Record, Retry}

  defp record(fields) do
    struct!(%Record{id: "job_1", task: "toy.run", model: "toy", created_at: 0}, fields)
  end

  defp crashed, do: Error.new("node_crashed", "toy-1: exit status 137")

  defp gone, do: Error.new("peer_lost", "The peer is gone")

  test "with three attempts: shared, shared, alone, poison_job" do
    assert Retry.class(record([]), 3) == :interactive
    assert {:again, _} = Retry.lost(record(attempt: 1), crashed(), 3)
    assert Retry.class(record(attempt: 1, losses: 1), 3) == :again
    assert {:again, %{message: message}} = Retry.lost(record(attempt: 2, losses: 1), crashed(), 3)
    assert message =~ "alone"
    assert Retry.class(record(attempt: 2, losses: 2), 3) == :alone

    assert {:failed, %{code: "poison_job"}} =
             Retry.lost(record(attempt: 3, losses: 2), crashed(), 3)
  end

  test "whatever the number of attempts, a job only fails after it ran alone, or if it has one" do
    for max <- 2..6, losses <- 0..6 do
      case Retry.lost(record(attempt: losses + 1, losses: losses), crashed(), max) do
        {:failed, error} ->
          assert losses + 1 >= max
          assert Retry.alone?(losses, max)
          assert error.code == "poison_job"

        {:again, error} ->
          assert losses + 1 < max
          assert error.code == "node_crashed"
      end
    end

    assert {:failed, %{code: "node_crashed"}} = Retry.lost(record([]), crashed(), 1)
  end

  test "with peers: shared, shared, with a peer to itself, poison_job" do
    assert {:again, _} = Retry.lost(record(attempt: 1), gone(), 3)
    assert Retry.class(record(attempt: 1, losses: 1, peer_losses: 1), 3) == :again
    lost = record(attempt: 2, losses: 2, peer_losses: 1)
    assert Retry.class(lost, 3) == :apart
    assert {:failed, %{code: "poison_job"} = error} = Retry.lost(lost, gone(), 3)
    assert error.message =~ "peer"
    # It killed its model node instead, with the peer to itself.
    assert {:failed, %{code: "poison_job"}} = Retry.lost(lost, crashed(), 3)
  end

  test "a job that had a model node to itself, but not the peer, is not to blame for the peer" do
    alone = record(attempt: 3, losses: 2)
    assert Retry.class(alone, 3) == :alone
    assert {:again, %{code: "peer_lost"}} = Retry.lost(alone, gone(), 3)
  end

  test "whatever the number of attempts, peers are not lost without end" do
    for max <- 1..6 do
      ends =
        Enum.find(0..20, fn losses ->
          match?(
            {:failed, _},
            Retry.lost(record(losses: losses, peer_losses: losses), gone(), max)
          )
        end)

      assert ends == max(max - 1, 1)
    end
  end

  test "an attempt that the store knows and no process does: held against the job where this peer ran it and died" do
    assert %{code: "peer_lost"} = Retry.interrupted(record(node: "toy-1"), false)
    assert %{code: "unavailable"} = Retry.interrupted(record(node: "toy-1"), true)
    assert %{code: "unavailable"} = Retry.interrupted(record(node: "toy-1@w@10.0.0.2"), false)
  end

  test "running out of memory alone is not called poison" do
    error = Error.new("out_of_memory", "it does not fit")
    assert {:failed, ^error} = Retry.lost(record(losses: 2), error, 3)
  end

  test "what the gateway did is not held against a job, however often" do
    error = Error.new("unavailable", "toy-1 died before it got the job")

    for losses <- 0..5,
        do: assert({:again, ^error} = Retry.lost(record(losses: losses), error, 3))
  end

  test "a batch job that is retried goes before the others, too" do
    assert Retry.class(record(priority: "batch"), 3) == :batch
    assert Retry.class(record(priority: "batch", attempt: 1), 3) == :again
  end
end
