defmodule Koma.Soak.RestartTest do
  use Koma.CoreCase, async: false

  @moduletag :soak
  @moduletag timeout: 600_000

  alias Koma.{OtherBeam, Storm}

  @running 8
  @queued 200
  @models [models: [%{name: "toy", family: "toy", checkpoint: "toy", slots: @running}]]

  test "SIGKILL of the whole BEAM with 200 jobs queued and 8 running: all 208 end, none twice, as undisturbed",
       %{dir: dir} do
    script = """
    long = Koma.OtherBeam.submit(#{@running}, %{"steps" => 400, "step_ms" => 50})
    for id <- long, do: Koma.CoreCase.await_attempt(id, 1)
    short = Koma.OtherBeam.submit(#{@queued}, %{"steps" => 5, "step_ms" => 20})
    IO.puts("IDS " <> Enum.join(long ++ short, " "))
    """

    beam = OtherBeam.start(dir, @models, script)
    ids = OtherBeam.ids(beam)
    OtherBeam.kill(beam)

    start_core(dir, @models)
    stories = for id <- ids, do: await_end(id, 120_000)
    assert length(stories) == @running + @queued

    assert Enum.count(stories, &("retrying" in milestones(&1))) == @running
    for events <- stories, do: assert(Storm.fault(events, digest(events)) == nil)
    # The two kinds differ in steps, and in nothing else but their seeds.
    assert stories |> Enum.map(&digest/1) |> Enum.uniq() |> length() == @running + @queued
    nothing_twice(ids, stories)
  end

  # What is stored is what was told, once.
  defp nothing_twice(ids, stories) do
    for {id, events} <- Enum.zip(ids, stories) do
      assert Koma.Store.Jobs.events(id, 0) == as_stored(events)
    end
  end
end
