defmodule Koma.Job.StoryTest do
  use ExUnit.Case, async: true

  alias Koma.Job.Story

  test "who joins a run late hears what is read of the prompts, which was told once" do
    prompts = %{"prompt" => %{"tokens" => 41, "read" => 32, "unknown" => 0}}

    story =
      for {type, data} <- [
            {"started", %{"attempt" => 1}},
            {"progress", %{"step" => 0, "prompts" => prompts}},
            {"progress", %{"step" => 1}},
            {"progress", %{"step" => 2}}
          ],
          reduce: %Story{} do
        story -> Story.note(story, type, data)
      end

    assert Story.events(story) == [
             {"started", %{"attempt" => 1}},
             {"progress", %{"step" => 2, "prompts" => prompts}}
           ]

    again = Story.note(Story.note(story, "retrying", %{}), "started", %{"attempt" => 2})
    assert Story.events(again) == [{"started", %{"attempt" => 2}}]
  end
end
