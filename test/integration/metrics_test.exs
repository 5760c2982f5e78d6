defmodule Koma.MetricsTest do
  @moduledoc "`/metrics` over HTTP, beside real model nodes of the toy family."
  use Koma.EdgeCase

  alias Koma.{Metrics, ModelNode, Telemetry}

  @steps 4

  test "the numbers of /metrics agree with what was run", %{dir: dir} do
    port = start_server(dir)
    ids = for seed <- 1..5, do: submit!(%{"steps" => @steps, "seed" => seed})["id"]
    failed = submit!(%{"steps" => @steps, "fail" => "step"})["id"]
    Enum.each(ids ++ [failed], &await_end/1)
    {:error, _} = Koma.submit(%{"task" => "toy.none"}, %Caller{})
    {:error, _} = Koma.submit(%{"task" => "toy.run", "params" => %{"steps" => 0}}, %Caller{})

    seen = scrape(port)
    assert seen[~s(koma_jobs_accepted_total{family="toy",task="toy.run"})] == 6
    assert seen[ended("completed", "")] == 5
    assert seen[ended("failed", "model_failed")] == 1
    assert seen[~s(koma_jobs_refused_total{family="",code="unknown_task"})] == 1
    assert seen[~s(koma_jobs_refused_total{family="",code="out_of_bounds"})] == 1
    assert seen[~s(koma_job_queue_wait_seconds_count{family="toy"})] == 6
    assert seen[~s(koma_job_duration_seconds_count{family="toy",state="completed"})] == 5

    assert seen[~s(koma_job_duration_seconds_bucket{family="toy",state="completed",le="+Inf"})] ==
             5

    assert seen[~s(koma_queue_jobs{family="toy"})] == 0
    for state <- ~w(queued running), do: assert(seen[live(state)] == 0)
    assert seen[~s(koma_model_node_up{family="toy",node="toy-1"})] == 1
    assert seen[~s(koma_beam_processes)] > 50
    assert seen[~s(koma_beam_memory_bytes{kind="total"})] > 1_000_000
  end

  test "forwards and rows are those of the steps, fewer forwards when jobs share them", %{
    dir: dir
  } do
    port = start_server(dir, models: [toy(%{slots: 4})])
    ids = for n <- 1..4, do: submit!(%{"steps" => 20, "step_ms" => 20, "seed" => n})["id"]
    Enum.each(ids, &await_end/1)
    await_end(submit!(%{"steps" => 10, "step_ms" => 20})["id"])
    node = ~s({family="toy",node="toy-1"})

    rows = 4 * 20 + 10
    eventually(fn -> scrape(port)["koma_model_node_rows_total" <> node] == rows end, 150)
    seen = scrape(port)
    forwards = seen["koma_model_node_forwards_total" <> node]
    assert forwards < rows
    assert seen["koma_model_node_forwards_saved_total" <> node] == rows - forwards
    assert seen["koma_model_node_batch_rows" <> node] == 1
    assert seen["koma_model_node_step_seconds" <> node] >= 0.02
    assert seen["koma_model_node_memory_bytes" <> node] > 1_000_000
    assert seen["koma_model_node_slots" <> node] == 4
  end

  test "a killed model node is a death, a retry and a restart", %{dir: dir} do
    port = start_server(dir)
    job = submit!(%{"steps" => 30, "step_ms" => 20})
    await_step(job["id"])
    seen = scrape(port)
    assert seen[live("running")] == 1
    System.cmd("kill", ["-KILL", "#{ModelNode.os_pid("toy-1")}"])
    assert %{type: "completed"} = List.last(await_end(job["id"]))

    seen = scrape(port)

    assert seen[~s(koma_model_node_deaths_total{family="toy",node="toy-1",code="node_crashed"})] ==
             1

    assert seen[~s(koma_model_node_restarts_total{family="toy",node="toy-1"})] == 1
    assert seen[~s(koma_job_retries_total{family="toy",code="node_crashed"})] == 1
    assert seen[~s(koma_job_queue_wait_seconds_count{family="toy"})] == 2
    assert seen[ended("completed", "")] == 1
    assert seen[~s(koma_model_node_load_seconds{family="toy",node="toy-1"})] > 0
  end

  test "jobs that wait, and how long the first has waited, are told while they wait", %{dir: dir} do
    port = start_server(dir, models: [toy(%{slots: 1})])
    [running | waiting] = for _ <- 1..4, do: submit!(%{"steps" => 100, "step_ms" => 20})["id"]
    await_step(running)
    eventually(fn -> scrape(port)[~s(koma_queue_oldest_wait_seconds{family="toy"})] > 0.2 end)
    seen = scrape(port)
    assert seen[~s(koma_queue_jobs{family="toy"})] == 3
    assert seen[live("queued")] == 3
    assert seen[live("running")] == 1
    for id <- [running | waiting], do: :ok = Koma.cancel(id, %Caller{})
    seen = scrape(port)
    assert seen[ended("cancelled", "cancelled")] == 4
    assert seen[~s(koma_queue_jobs{family="toy"})] == 0
    assert seen[~s(koma_queue_oldest_wait_seconds{family="toy"})] == 0
  end

  test "sockets, topics and the bytes of artifacts are counted", %{dir: dir} do
    port = start_server(dir)
    sockets = for _ <- 1..3, do: connect(port)
    # The answer to a handshake comes before the socket counts itself; the first reply after it.
    for socket <- sockets, do: %{"status" => "ok"} = ask(socket, "phoenix", "heartbeat", %{})
    join!(hd(sockets), "jobs")
    seen = scrape(port)
    assert seen["koma_sockets"] == 3
    assert seen["koma_channels"] == 1
    assert seen[~s(koma_channels_joined_total{topic="jobs"})] == 1
    for {gun, _stream} <- sockets, do: :gun.close(gun)
    eventually(fn -> scrape(port)["koma_sockets"] == 0 end)

    bytes = :crypto.strong_rand_bytes(1_000)
    type = [{"content-type", "application/octet-stream"}]
    {201, _, _} = created = http(port, "POST", "/v1/artifacts", type, bytes)
    {200, _, _} = http(port, "POST", "/v1/artifacts", type, bytes)
    path = "/v1/artifacts/" <> json(created)["id"]
    {200, _, ^bytes} = http(port, "GET", path)
    {206, _, _} = http(port, "GET", path, [{"range", "bytes=0-99"}])
    {200, _, ""} = http(port, "HEAD", path)
    seen = scrape(port)
    assert seen["koma_sockets_opened_total"] == 3
    assert closed(seen) == 3
    assert seen[~s(koma_artifacts_stored_total{status="created"})] == 1
    assert seen[~s(koma_artifacts_stored_total{status="existed"})] == 1
    assert seen["koma_artifacts_stored_bytes_total"] == 1_000
    assert seen["koma_artifacts_read_bytes_total"] == 1_100
  end

  test "pipelines and what the cache of results answered are counted", %{dir: dir} do
    port = start_server(dir, share_results: true)
    stages = [%{"name" => "a", "task" => "toy.run", "params" => %{"steps" => 1, "seed" => 1}}]
    {:ok, %{"id" => id}} = Koma.Pipeline.submit(%{"stages" => stages, "inputs" => %{}}, %Caller{})
    ended = ~s(koma_pipelines_ended_total{state="completed"})
    eventually(fn -> scrape(port)[ended] == 1 end)
    assert {:ok, %{"state" => "completed"}} = Koma.Pipeline.get(id, %Caller{})

    # A result is kept soon after its job has ended.
    eventually(fn -> await_same()["cached"] == true end)
    seen = scrape(port)
    accepted = seen[~s(koma_jobs_accepted_total{family="toy",task="toy.run"})]
    assert accepted >= 2
    assert seen[ended("completed", "")] == accepted
    assert seen[~s(koma_cache_requests_total{result="hit"})] == 1
    assert seen[~s(koma_cache_requests_total{result="miss"})] == accepted - 1
    assert seen[~s(koma_job_queue_wait_seconds_count{family="toy"})] == accepted - 1
  end

  defp await_same do
    job = submit!(%{"steps" => 1, "seed" => 1})
    await_end(job["id"])
    job
  end

  test "while the core is down /metrics answers with what there is", %{dir: dir} do
    port = start_server(dir)
    await_end(submit!()["id"])
    stop_core()
    seen = scrape(port)
    assert seen[ended("completed", "")] == 1
    assert seen["koma_beam_ports"] > 0
    refute Map.has_key?(seen, ~s(koma_queue_jobs{family="toy"}))
  end

  test "no label ever holds an id, a key, a parameter or what a client made up", %{dir: dir} do
    port = start_server(dir)
    socket = connect(port, "vsn=2.0.0&api_key=secret-key")
    push(socket, ["1", "1", "made:up", "phx_join", %{}])
    params = %{"steps" => 2, "seed" => 918_273_645}
    job = submit!(params, %{"on_disconnect" => "keep"})
    join!(socket, "job:" <> job["id"])
    await_end(job["id"])
    {:error, _} = Koma.submit(%{"task" => "made.up"}, %Caller{})
    {200, _, text} = http(port, "GET", "/metrics")

    for secret <- [job["id"], "secret-key", "918273645", "made"] do
      refute text =~ secret
    end
  end

  test "what a job costs in events and counting is a few microseconds" do
    start_supervised!(Metrics)
    start_supervised!({Telemetry, Metrics.handlers()})
    jobs = 20_000
    {us, :ok} = :timer.tc(fn -> Enum.each(1..jobs, fn _ -> story() end) end)
    if System.get_env("KOMA_MEASURE"), do: IO.puts("\n#{us / jobs} µs for the events of a job")
    # Some 10 on an old core; the bound is for machines that do other things meanwhile.
    assert us / jobs < 200
    assert IO.iodata_to_binary(Metrics.scrape()) =~ ~s(task="toy.run"} #{jobs}\n)
  end

  # The events of a job that completes at once.
  defp story do
    job = %{id: "job", task: "toy.run", model: "toy"}
    queue = %{model: "toy"}
    Telemetry.execute([:koma, :queue, :admitted], %{count: 1}, queue)
    Telemetry.execute([:koma, :job, :accepted], %{count: 1}, job)
    Telemetry.execute([:koma, :queue, :depth], %{jobs: 1}, queue)
    Telemetry.execute([:koma, :queue, :depth], %{jobs: 0}, queue)
    started = Map.merge(job, %{attempt: 1, node: "toy-1"})
    Telemetry.execute([:koma, :job, :started], %{queue_ms: 3}, started)
    finished = Map.merge(job, %{state: "completed", code: nil})
    Telemetry.execute([:koma, :job, :finished], %{duration_ms: 70}, finished)
  end

  defp ended(state, code) do
    ~s(koma_jobs_ended_total{family="toy",task="toy.run",state="#{state}",code="#{code}"})
  end

  defp live(state), do: ~s(koma_jobs{family="toy",state="#{state}"})

  defp closed(seen) do
    Enum.sum(for {"koma_sockets_closed_total" <> _reason, n} <- seen, do: n)
  end

  # Every sample by its name and labels.
  defp scrape(port) do
    {200, headers, text} = http(port, "GET", "/metrics")
    assert headers["content-type"] =~ "text/plain; version=0.0.4"

    for line <- String.split(text, "\n", trim: true), not String.starts_with?(line, "#") do
      [_, name, value] = Regex.run(~r/\A(.+) (\S+)\z/, line)
      {number, ""} = Float.parse(value)
      {name, number}
    end
    |> Map.new()
  end
end
