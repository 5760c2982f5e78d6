defmodule Koma.Pipeline.GraphTest do
  use ExUnit.Case, async: true

  import Koma.Properties

  alias Koma.Pipeline.Graph

  @tasks %{
    "video.understand" => ["text"],
    "image.generate" => ["image"],
    "video.generate" => ["video"],
    "toy.run" => ["result"]
  }

  defp stage(name, inputs \\ %{}), do: %{"name" => name, "task" => "toy.run", "inputs" => inputs}
  defp from(reference), do: %{"file" => %{"from" => reference}}
  defp names(graph), do: Enum.map(graph.stages, & &1.name)

  test "story is built in: caption, then image, then video" do
    request = %{
      "pipeline" => "story",
      "inputs" => %{"video" => "v"},
      "params" => %{"image" => %{"steps" => 12}}
    }

    assert {:ok, graph} = Graph.new(request, @tasks)
    assert names(graph) == ["caption", "image", "video"]
    assert Graph.fetch!(graph, "image").needs == ["caption"]
    assert Enum.sort(Graph.fetch!(graph, "video").needs) == ["caption", "image"]

    assert {:ok, %{"task" => "video.understand", "inputs" => %{"video" => "v"}}} =
             Graph.job_request(graph, Graph.fetch!(graph, "caption"), %{})

    outputs = %{
      "caption.text" => %{"name" => "text", "text" => "a cat"},
      "image.image" => %{"name" => "image", "artifact" => "i", "media_type" => "image/png"}
    }

    assert {:ok, %{"params" => %{"prompt" => "a cat", "steps" => 12}}} =
             Graph.job_request(graph, Graph.fetch!(graph, "image"), outputs)

    assert {:ok, %{"params" => %{"prompt" => "a cat"}, "inputs" => %{"image" => "i"}}} =
             Graph.job_request(graph, Graph.fetch!(graph, "video"), outputs)
  end

  describe "requests that cannot run are refused with the field" do
    for {name, request, code, field} <- [
          {"nothing", %{}, "missing_field", "stages"},
          {"both a name and stages", %{"pipeline" => "story", "stages" => []}, "invalid_value",
           "stages"},
          {"an unknown name", %{"pipeline" => "saga"}, "invalid_value", "pipeline"},
          {"an unknown field", %{"stage" => []}, "unknown_field", "stage"},
          {"no stages", %{"stages" => []}, "out_of_bounds", "stages"},
          {"stages of the wrong type", %{"stages" => %{}}, "wrong_type", "stages"},
          {"a stage that is no object", %{"stages" => [1]}, "wrong_type", "stages[0]"},
          {"a stage without a task", %{"stages" => [%{"name" => "a"}]}, "missing_field",
           "stages[0].task"},
          {"a task of the wrong type", %{"stages" => [%{"name" => "a", "task" => 1}]},
           "wrong_type", "stages[0].task"},
          {"an unknown task", %{"stages" => [%{"name" => "a", "task" => "x"}]}, "unknown_task",
           "stages.a.task"},
          {"a bad name", %{"stages" => [%{"name" => "A b", "task" => "toy.run"}]},
           "invalid_value", "stages[0].name"},
          {"the name input", %{"stages" => [%{"name" => "input", "task" => "toy.run"}]},
           "invalid_value", "stages[0].name"},
          {"story without its video", %{"pipeline" => "story"}, "missing_field", "inputs.video"},
          {"an input that nothing uses",
           %{"pipeline" => "story", "inputs" => %{"video" => "v", "vido" => "v"}},
           "unknown_field", "inputs.vido"},
          {"parameters of an unknown stage",
           %{
             "pipeline" => "story",
             "inputs" => %{"video" => "v"},
             "params" => %{"imgae" => %{}}
           }, "unknown_field", "params.imgae"},
          {"parameters of the wrong type",
           %{"pipeline" => "story", "inputs" => %{"video" => "v"}, "params" => %{"image" => 1}},
           "wrong_type", "params.image"}
        ] do
      test name do
        assert {:error, error} = Graph.new(unquote(Macro.escape(request)), @tasks)
        assert {error.code, error.field} == {unquote(code), unquote(field)}
      end
    end

    test "more stages than the limit" do
      stages = fn n -> %{"stages" => for(i <- 1..n, do: stage("s#{i}"))} end
      assert {:ok, _} = Graph.new(stages.(Graph.max_stages()), @tasks)
      assert {:error, error} = Graph.new(stages.(Graph.max_stages() + 1), @tasks)
      assert %{code: "out_of_bounds", bound: "1..16", value: 17} = error
    end

    test "two stages of one name" do
      assert {:error, %{code: "invalid_value", value: "a"}} =
               Graph.new(%{"stages" => [stage("a"), stage("a")]}, @tasks)
    end

    test "references to stages, outputs and inputs that are not there" do
      for {reference, code, field} <- [
            {"b.result", "invalid_value", "stages.a.inputs.file"},
            {"c.text", "invalid_value", "stages.a.inputs.file"},
            {"input.file", "missing_field", "inputs.file"}
          ] do
        stages = [stage("a", from(reference)), stage("c")]
        assert {:error, error} = Graph.new(%{"stages" => stages}, @tasks)
        assert {error.code, error.field} == {code, field}
      end
    end

    test "one of several results of a kind may be meant" do
      image = %{"name" => "i", "task" => "image.generate", "params" => %{"n" => 2}}
      request = fn output -> %{"stages" => [image, stage("t", from("i." <> output))]} end
      assert {:ok, _graph} = Graph.new(request.("image_2"), @tasks)
      assert {:error, %{code: "invalid_value"}} = Graph.new(request.("image_x"), @tasks)
    end

    test "circles, also of one stage and behind others" do
      for stages <- [
            [stage("a", from("a.result"))],
            [stage("a", from("b.result")), stage("b", from("a.result"))],
            [stage("x"), stage("a", from("b.result")), stage("b", from("a.result"))]
          ] do
        assert {:error, error} = Graph.new(%{"stages" => stages}, @tasks)
        assert %{code: "invalid_value", field: "stages"} = error
        assert error.message =~ "a"
        refute error.message =~ "x,"
      end
    end
  end

  test "a text cannot be an input file and a file cannot be a parameter" do
    stages = [
      stage("a"),
      stage("b", from("a.result")),
      Map.put(stage("c"), "params", %{"x" => %{"from" => "a.result"}})
    ]

    {:ok, graph} = Graph.new(%{"stages" => stages}, @tasks)
    text = %{"a.result" => %{"name" => "result", "text" => "t"}}
    file = %{"a.result" => %{"name" => "result", "artifact" => "id"}}
    [b, c] = for name <- ["b", "c"], do: Graph.fetch!(graph, name)

    assert {:ok, %{"params" => %{"x" => "t"}}} = Graph.job_request(graph, c, text)
    assert {:ok, %{"inputs" => %{"file" => "id"}}} = Graph.job_request(graph, b, file)
    assert {:error, %{field: "stages.b.inputs.file"}} = Graph.job_request(graph, b, text)
    assert {:error, %{field: "stages.c.params.x"}} = Graph.job_request(graph, c, file)
    assert {:error, %{code: "invalid_value"}} = Graph.job_request(graph, c, %{})
  end

  test "stages are ready when all they need has completed, and blocked when one of it failed" do
    stages = [stage("c", from("a.result")), stage("a"), stage("b")]
    {:ok, graph} = Graph.new(%{"stages" => stages}, @tasks)
    ready = fn states -> Enum.map(Graph.ready(graph, states), & &1.name) end

    waiting = %{"a" => "waiting", "b" => "waiting", "c" => "waiting"}
    assert ready.(waiting) == ["a", "b"]
    assert ready.(%{waiting | "a" => "running", "b" => "running"}) == []
    assert ready.(%{waiting | "a" => "completed", "b" => "running"}) == ["c"]

    assert [{%{name: "c"}, "a"}] =
             Graph.blocked(graph, %{waiting | "a" => "failed", "b" => "running"})

    assert Graph.blocked(graph, waiting) == []
  end

  test "whatever refers to earlier ones only, in any order, is put into an order that works" do
    # Stage i may need those before it: bit j of its mask says whether it needs j.
    graphs = {integer(1, 8), list(integer(0, 255)), integer(0, 1_000)}

    assert holds(graphs, fn {size, masks, seed} ->
             stages =
               for i <- 0..(size - 1) do
                 mask = Enum.at(masks, i, 0)
                 needs = for j <- 0..7, j < i, Bitwise.band(mask, Bitwise.bsl(1, j)) != 0, do: j
                 params = Map.new(needs, &{"p#{&1}", %{"from" => "s#{&1}.result"}})
                 Map.put(stage("s#{i}"), "params", params)
               end

             shuffled = Enum.sort_by(stages, &:erlang.phash2({&1["name"], seed}))
             {:ok, graph} = Graph.new(%{"stages" => shuffled}, @tasks)
             length(graph.stages) == size and runs?(graph.stages, [])
           end)
  end

  defp runs?([], _done), do: true

  defp runs?([stage | rest], done) do
    stage.needs -- done == [] and runs?(rest, [stage.name | done])
  end
end
