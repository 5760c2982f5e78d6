defmodule Koma.TelemetryDocTest do
  use ExUnit.Case, async: true

  alias Koma.Metrics.{Definitions, Gauges, Recorder}
  alias Koma.Telemetry
  alias Koma.Telemetry.Events

  @root Path.expand("../..", __DIR__)
  @doc_path Path.join(@root, "docs/telemetry.md")

  test "docs/telemetry.md lists exactly the events and the metrics of the code" do
    tables = [{"events", Events.to_markdown()}, {"metrics", Definitions.to_markdown()}]

    generated =
      Enum.reduce(tables, File.read!(@doc_path), fn {name, table}, doc ->
        section = ~r/(<!-- begin: #{name} -->\n).*(<!-- end: #{name} -->)/s
        assert doc =~ section
        Regex.replace(section, doc, fn _, from, to -> from <> table <> "\n" <> to end)
      end)

    if System.get_env("KOMA_WRITE_DOCS"), do: File.write!(@doc_path, generated)
    assert File.read!(@doc_path) == generated
  end

  test "the events of the list are those that the code executes" do
    lists =
      Path.wildcard(Path.join(@root, "lib/koma/{telemetry,metrics}/*.ex"))
      |> MapSet.new()

    executed =
      for path <- Path.wildcard(Path.join(@root, "lib/**/*.ex")),
          not MapSet.member?(lists, path),
          event <- event_literals(path),
          uniq: true,
          do: event

    assert Enum.sort(executed) == Enum.sort(Telemetry.events())
  end

  test "what is counted are listed events, and every metric is counted or read" do
    assert Recorder.events() -- Telemetry.events() == []

    recorder = File.read!(Path.join(@root, "lib/koma/metrics/recorder.ex"))
    gauges = File.read!(Path.join(@root, "lib/koma/metrics/gauges.ex"))

    for %{name: name} <- Definitions.all() do
      sources = Enum.filter([recorder, gauges], &(&1 =~ ~r/\b#{name}\b/))
      assert length(sources) == 1, "#{name} is set in #{length(sources)} places"
    end

    known = for %{name: name} <- Definitions.all(), do: name
    assert Map.keys(Gauges.read()) -- known == []
  end

  # Every `[:koma, :place, :what]` in a file.
  defp event_literals(path) do
    {_tree, events} =
      path
      |> File.read!()
      |> Code.string_to_quoted!()
      |> Macro.prewalk([], fn
        [:koma, place, what] = event, events when is_atom(place) and is_atom(what) ->
          {event, [event | events]}

        tree, events ->
          {tree, events}
      end)

    events
  end
end
