defmodule Koma.PipelineTest do
  @moduledoc "Live pipelines over real model nodes."
  use Koma.EdgeCase

  alias Koma.Pipeline
  alias Koma.Pipeline.{Files, Graph, Record}

  setup %{dir: dir} = context do
    {:ok, port: start_server(dir, Map.get(context, :options, []))}
  end

  defp stage(name, params, inputs \\ %{}) do
    %{"name" => name, "task" => "toy.run", "params" => params, "inputs" => inputs}
  end

  defp from(reference), do: %{"file" => %{"from" => reference}}

  defp run!(stages, inputs \\ %{}) do
    {:ok, pipeline} = Pipeline.submit(%{"stages" => stages, "inputs" => inputs}, %Caller{})
    pipeline["id"]
  end

  # All events of a pipeline, to its last one.
  defp events(id) do
    {:ok, _pipeline, events, _previews} = Pipeline.subscribe(id, 0, %Caller{})
    events ++ later(id, List.last(events))
  end

  defp later(_id, %{type: type}) when type in ~w(completed failed cancelled), do: []

  defp later(id, _last) do
    receive do
      {:koma_pipeline_event, ^id, event} -> [event | later(id, event)]
    after
      20_000 -> raise "the pipeline did not end: #{inspect(Pipeline.get(id, %Caller{}))}"
    end
  end

  defp gapless?(events), do: Enum.map(events, & &1.seq) == Enum.to_list(1..length(events))

  defp get(id) do
    {:ok, pipeline} = Pipeline.get(id, %Caller{})
    pipeline
  end

  defp states(id), do: Map.new(get(id)["stages"], &{&1["name"], &1["state"]})

  @tag options: [share_results: true]
  test "stages that are answered from the cache, all at once, let the next ones start" do
    made = %{"steps" => 2, "seed" => 1, "output_bytes" => 1_000}
    first = [stage("a", made), stage("b", made, from("a.result"))]
    assert %{type: "completed"} = List.last(events(run!(first)))
    longer = first ++ [stage("c", %{"steps" => 2, "seed" => 2}, from("b.result"))]
    events = events(run!(longer))
    assert gapless?(events)
    assert %{type: "completed"} = List.last(events)

    cached =
      for %{data: %{"stage" => name, "event" => "completed"} = data} <- events,
          data["payload"]["cached"],
          do: name

    assert cached == ["a", "b"]
  end

  test "stages that need nothing of one another run at the same time; the others wait" do
    slow = %{"steps" => 20, "step_ms" => 10, "output_bytes" => 1_000}
    id = run!([stage("c", %{"steps" => 2}, from("a.result")), stage("a", slow), stage("b", slow)])
    events = events(id)
    assert gapless?(events)
    assert %{type: "completed", data: %{"outputs" => outputs}} = List.last(events)
    assert outputs |> Map.keys() |> Enum.sort() == ["a.result", "b.result", "c.result"]

    told = for %{type: "stage", data: data} <- events, do: {data["stage"], data["event"]}
    index = fn what -> Enum.find_index(told, &(&1 == what)) end
    assert index.({"a", "started"}) < index.({"b", "completed"})
    assert index.({"b", "started"}) < index.({"a", "completed"})
    assert index.({"a", "completed"}) < index.({"c", "queued"})
  end

  @tag options: [grace_ms: 2_000, collect_ms: 20, queue_limit: 1]
  test "an input is not collected while its stage waits for room in the queue, however long" do
    {:ok, writer} = Koma.Store.Artifacts.open("text/plain")
    {:ok, writer} = Koma.Store.Artifacts.write(writer, "an input")
    {:ok, artifact, :created} = Koma.Store.Artifacts.commit(writer, nil)
    long = %{"steps" => 200, "step_ms" => 20}

    for running <- 1..2 do
      submit!(long)
      eventually(fn -> Koma.Scheduler.running() == running end)
    end

    submit!(long)
    id = run!([stage("late", %{"steps" => 1}, from("input.file"))], %{"file" => artifact.id})
    events = events(id)
    assert %{type: "completed"} = List.last(events)
    assert List.last(events).at - get(id)["created_at"] > 3_000
  end

  test "a failed stage fails what needs it, says why, and lets the others finish" do
    id =
      run!([
        stage("bad", %{"fail" => "step", "output_bytes" => 10}),
        stage("next", %{}, from("bad.result")),
        stage("last", %{}, from("next.result")),
        stage("good", %{"steps" => 30, "step_ms" => 5})
      ])

    assert %{type: "failed", data: data} = id |> events() |> List.last()
    assert %{"stage" => "bad", "code" => "model_failed"} = data

    assert states(id) == %{
             "bad" => "failed",
             "next" => "failed",
             "last" => "failed",
             "good" => "completed"
           }

    next = Enum.find(get(id)["stages"], &(&1["name"] == "next"))
    assert %{"code" => "stage_failed", "message" => message} = next["error"]
    assert message =~ "bad"
    assert Map.keys(get(id)["outputs"]) == ["good.result"]
  end

  test "parameters that the task refuses fail their stage with its error" do
    id = run!([stage("a", %{"steps" => 0})])
    assert %{type: "failed", data: %{"code" => "out_of_bounds"}} = id |> events() |> List.last()
  end

  test "a cancel cancels the jobs, and a second one is harmless" do
    id =
      run!([
        stage("a", %{"steps" => 5000, "step_ms" => 10, "output_bytes" => 9}),
        stage("b", %{}, from("a.result"))
      ])

    {:ok, _, _, _} = Pipeline.subscribe(id, 0, %Caller{})

    assert_receive {:koma_pipeline_event, ^id, %{data: %{"event" => "progress", "job" => job}}},
                   5_000

    assert Pipeline.cancel(id, %Caller{}) == :ok
    assert Pipeline.cancel(id, %Caller{}) == :ok
    assert {:ok, %{"state" => "cancelled"}} = Koma.job(job, %Caller{})
    assert states(id) == %{"a" => "cancelled", "b" => "cancelled"}
    assert {:error, %{code: "not_found"}} = Pipeline.cancel("pl_none", %Caller{})
  end

  test "who follows late gets the same events as who was there" do
    id = run!([stage("a", %{"steps" => 10, "step_ms" => 5, "preview_bytes" => 10})])
    live = id |> events() |> as_stored()
    {:ok, pipeline, stored, []} = Pipeline.subscribe(id, 0, %Caller{})
    assert stored == live
    assert pipeline["seq"] == length(live)
    half = div(length(live), 2)
    {:ok, _, rest, []} = Pipeline.subscribe(id, half, %Caller{})
    assert rest == Enum.drop(live, half)
  end

  test "previews tell their stage" do
    id = run!([stage("a", %{"steps" => 40, "step_ms" => 10, "preview_bytes" => 10})])
    {:ok, _, _, _} = Pipeline.subscribe(id, 0, %Caller{})
    assert_receive {:koma_pipeline_preview, ^id, "a", %Koma.Job.Preview{}}, 5_000
    assert :ok = Pipeline.unsubscribe(id)
    refute_received {:koma_pipeline_preview, _, _, _}
  end

  test "a pipeline whose process is killed goes on, and its events have no gap", %{port: port} do
    slow = %{"steps" => 60, "step_ms" => 10, "output_bytes" => 100}
    id = run!([stage("a", slow), stage("b", slow, from("a.result"))])
    socket = connect(port)
    join!(socket, "pipeline:" <> id)

    for n <- [10, 40] do
      read_until(socket, &match?([_, _, _, "stage", %{"seq" => seq}] when seq > n, &1))
      Process.exit(Pipeline.whereis(id), :kill)
    end

    frames =
      read_until(socket, &match?([_, _, _, event, _] when event in ~w(completed failed), &1))

    assert [_, _, _, "completed", %{"seq" => last}] = List.last(frames)
    {:ok, _, stored, []} = Pipeline.subscribe(id, 0, %Caller{})
    assert gapless?(stored)
    seen = for [_, _, _, _, %{"seq" => seq}] <- frames, do: seq
    assert seen == Enum.to_list(hd(seen)..last)

    # Each job was taken in once: one start and one end per stage.
    told = for %{type: "stage", data: data} <- stored, do: {data["stage"], data["event"]}

    for stage <- ["a", "b"], event <- ["started", "completed"] do
      assert Enum.count(told, &(&1 == {stage, event})) == 1
    end
  end

  test "a pipeline goes on after a restart of the server", %{dir: dir} do
    slow = %{"steps" => 100, "step_ms" => 10, "output_bytes" => 100}
    id = run!([stage("a", slow), stage("b", %{}, from("a.result"))])
    {:ok, _, _, _} = Pipeline.subscribe(id, 0, %Caller{})
    assert_receive {:koma_pipeline_event, ^id, %{data: %{"event" => "progress"}}}, 5_000
    :ok = Pipeline.unsubscribe(id)
    Process.exit(Process.whereis(Koma.Pipeline.Supervisor), :kill)
    stop_edge()
    stop_core()
    start_server(dir)
    events = events(id)
    assert gapless?(events)
    assert %{type: "completed"} = List.last(events)
  end

  test "a pipeline that breaks its process again and again fails, and no other does" do
    id = run!([stage("a", %{"steps" => 5000, "step_ms" => 10})])
    other = run!([stage("a", %{"steps" => 5000, "step_ms" => 10})])

    kill = fn ->
      with pid when is_pid(pid) <- Pipeline.whereis(id), do: Process.exit(pid, :kill)
      get(id)["state"] == "failed"
    end

    assert eventually(kill)
    assert %{"error" => %{"code" => "internal"}} = get(id)
    assert %{"state" => "running"} = get(other)
  end

  test "one key cannot see the pipelines of another" do
    id = run!([stage("a", %{})])
    assert {:error, %{code: "not_found"}} = Pipeline.get(id, %Caller{key: "other"})
  end

  test "ids never become paths" do
    for id <- [
          "../jobs/journal",
          "",
          "pl_",
          String.duplicate("x", 1000),
          "pl_/../../../etc/passwd"
        ] do
      assert {:error, %{code: "not_found"}} = Pipeline.get(id, %Caller{})
    end
  end

  test "finished pipelines beyond the retention are forgotten, running ones are not", %{dir: dir} do
    Koma.Options.put(options(dir, retention_jobs: 2))
    running = run!([stage("a", %{"steps" => 5000, "step_ms" => 10})])
    for _n <- 1..4, do: [stage("a", %{"steps" => 1})] |> run!() |> events()
    assert eventually(fn -> length(Files.ids()) == 3 end)
    assert %{"state" => "running"} = get(running)
  end

  test "a pipeline that was accepted and has no process yet is not forgotten; what was half accepted is",
       %{dir: dir} do
    Koma.Options.put(options(dir, retention_jobs: 1))
    accepted = Files.new_id()
    {:ok, graph} = Graph.new(%{"stages" => [stage("a", %{})]}, %{"toy.run" => []})
    :ok = Files.accept(Record.new(accepted, nil, graph))
    for _n <- 1..3, do: [stage("a", %{"steps" => 1})] |> run!() |> events()
    assert accepted in Files.ids()
    half = Path.join([dir, "pipelines", Files.new_id() <> ".new"])
    File.write!(half, "half")
    :ok = Files.prepare()
    refute File.exists?(half)
    assert accepted in Files.ids()
  end
end
