defmodule Koma.Job.FollowersTest do
  @moduledoc "Who follows gets every event; who waits for the end gets that alone."
  use Koma.CoreCase, async: false

  alias Koma.Job.{Event, Followers}

  setup %{dir: dir} do
    start_core(dir)
    :ok
  end

  test "of what was told at once only the events that are known are skipped" do
    events = for seq <- 1..5, do: %Event{seq: seq, type: "progress", at: 0, data: %{}}
    for told <- Enum.chunk_every(events, 2), do: send(self(), {:koma_events, "job_x", told})
    Followers.skip("job_x", 3)
    assert_received {:koma_events, "job_x", [%Event{seq: 4}]}
    assert_received {:koma_events, "job_x", [%Event{seq: 5}]}
    refute_received {:koma_events, "job_x", _known}
  end

  test "who waits for the end of a job is told nothing else, and gets it also when it comes late" do
    id = submit!(%{"steps" => 5, "step_ms" => 20, "preview_bytes" => 100})["id"]
    {:ok, _job, [], _preview} = Koma.subscribe(id, :none, %Caller{})
    assert_receive {:koma_events, ^id, [%Event{type: "completed"}]}, 20_000
    refute_received {:koma_events, ^id, _others}
    refute_received {:koma_preview, ^id, _preview}
    assert {:ok, %{"state" => "completed"}, [], nil} = Koma.subscribe(id, :none, %Caller{})
  end

  test "events that are stored together are told one by one, without gaps" do
    id = submit!(%{"steps" => 300, "tokens" => true})["id"]
    events = await_end(id)
    assert Enum.map(events, & &1.seq) == Enum.to_list(1..length(events))
    assert Enum.count(events, &(&1.type == "token")) == 300
  end
end
