defmodule Koma.PipelineQuotaTest do
  @moduledoc "Pipelines and what they make count against the limits of their key, before they are stored."
  use Koma.EdgeCase

  @json {"content-type", "application/json"}
  @slow %{"steps" => 10_000, "step_ms" => 5}

  defp start(dir, settings) do
    keys = key("a", settings) <> key("b", settings)
    start_server(dir, keys: keys, drain_ms: 100)
  end

  defp as(id), do: {"x-api-key", secret(id)}

  defp graph(params), do: %{"stages" => [stage("one", params)], "on_disconnect" => "keep"}
  defp stage(name, params), do: %{"name" => name, "task" => "toy.run", "params" => params}

  defp submit(port, id, graph) do
    http(port, "POST", "/v1/pipelines", [@json, as(id)], Koma.JSON.encode!(graph))
  end

  defp cancel(port, id, pipeline),
    do: http(port, "DELETE", "/v1/pipelines/" <> pipeline, [as(id)])

  defp error({429, _headers, _body} = answer), do: json(answer)["error"]

  defp over_socket(port, id, graph) do
    socket = connect(port, "vsn=2.0.0", [as(id)])
    join!(socket, "jobs")
    %{"status" => status, "response" => response} = ask(socket, "jobs", "submit_pipeline", graph)
    {status, response}
  end

  defp files(dir), do: dir |> Path.join("pipelines") |> File.ls!()

  test "a key has as many pipelines that have not ended as jobs, by whatever door; also after a restart",
       %{dir: dir} do
    port = start(dir, "jobs=3 burst=1000 rate=1000")

    answers =
      1..12
      |> Task.async_stream(fn _ -> submit(port, "a", graph(@slow)) end, max_concurrency: 12)
      |> Enum.map(fn {:ok, answer} -> answer end)

    {accepted, refused} = Enum.split_with(answers, &match?({202, _, _}, &1))
    assert {length(accepted), length(files(dir))} == {3, 3}

    for answer <- refused do
      assert %{"code" => "limit_reached", "field" => "jobs", "bound" => 3} = error(answer)
    end

    assert {"error", %{"code" => "limit_reached"}} = over_socket(port, "a", graph(@slow))
    assert {"ok", %{"id" => of_b}} = over_socket(port, "b", graph(@slow))
    stop_edge()
    stop_core()
    port = start(dir, "jobs=3 burst=1000 rate=1000")
    assert {429, _, _} = submit(port, "a", graph(@slow))
    [first | _] = for answer <- accepted, do: json(answer)["id"]
    assert {200, _, _} = cancel(port, "a", first)
    assert {202, _, _} = submit(port, "a", graph(@slow))
    assert {429, _, _} = submit(port, "a", graph(@slow))
    assert {200, _, _} = cancel(port, "b", of_b)
  end

  test "the request of a pipeline counts against the bytes of its key before it is stored", %{
    dir: dir
  } do
    port = start(dir, "stored_bytes=20000")
    large = graph(%{"text" => String.duplicate("x", 15_000), "steps" => 1})
    huge = graph(%{"text" => String.duplicate("x", 30_000), "steps" => 1})

    assert %{"code" => "quota_exceeded", "field" => "stored_bytes"} =
             error(submit(port, "a", huge))

    assert {"error", %{"code" => "quota_exceeded"}} = over_socket(port, "a", huge)
    assert files(dir) == []
    assert {202, _, _} = submit(port, "a", large)
    assert %{"code" => "quota_exceeded", "bound" => 20_000} = error(submit(port, "a", large))
    headers = [{"content-type", "text/plain"}, as("a")]

    assert {429, _, _} =
             http(port, "POST", "/v1/artifacts", headers, String.duplicate("y", 9_000))

    assert {202, _, _} = submit(port, "b", large)
  end

  test "what a stage makes counts, too: one that finds no room fails, and keeps nothing", %{
    dir: dir
  } do
    port = start(dir, "stored_bytes=100000")
    made = fn bytes -> graph(%{"steps" => 1, "output_bytes" => bytes}) end
    first = json(submit(port, "a", made.(60_000)))["id"]
    assert %{"state" => "completed"} = ended(port, first)
    second = json(submit(port, "a", made.(50_000)))["id"]
    assert %{"state" => "failed", "error" => %{"code" => "quota_exceeded"}} = ended(port, second)
    body = Koma.JSON.encode!(%{"task" => "toy.run", "params" => %{"output_bytes" => 50_000}})
    job = json(http(port, "POST", "/v1/jobs?wait=true", [@json, as("a")], body))
    assert %{"state" => "failed", "error" => %{"code" => "quota_exceeded"}} = job
    # The same after a restart, as the results are there.
    stop_edge()
    stop_core()
    port = start(dir, "stored_bytes=100000")
    third = json(submit(port, "a", made.(50_000)))["id"]
    assert %{"state" => "failed"} = ended(port, third)

    [%{"job" => made_it}] =
      json(http(port, "GET", "/v1/pipelines/" <> first, [as("a")]))["stages"]

    {204, _, _} = http(port, "DELETE", "/v1/jobs/#{made_it}?forget=true", [as("a")])
    fourth = json(submit(port, "a", made.(50_000)))["id"]
    assert %{"state" => "completed"} = ended(port, fourth)
  end

  defp ended(port, id) do
    read = fn -> json(http(port, "GET", "/v1/pipelines/" <> id, [as("a")])) end
    eventually(fn -> read.()["state"] != "running" end)
    read.()
  end
end
