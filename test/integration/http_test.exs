defmodule Koma.HTTPTest do
  @moduledoc "The HTTP routes over real sockets."
  use Koma.EdgeCase

  @json [{"content-type", "application/json"}]

  setup %{dir: dir}, do: {:ok, port: start_server(dir, max_upload_bytes: 3_000_000)}

  defp upload(port, body, headers \\ [{"content-type", "text/plain"}]) do
    http(port, "POST", "/v1/artifacts", headers, body)
  end

  defp submit(port, request, query \\ "") do
    http(port, "POST", "/v1/jobs" <> query, @json, Koma.JSON.encode!(request))
  end

  defp code(answer), do: json(answer)["error"]["code"]

  # Sends bytes as they are and returns all that comes until the server closes.
  defp raw(port, bytes, timeout \\ 5_000) do
    {:ok, tcp} = :gen_tcp.connect('127.0.0.1', port, [:binary, active: false])
    :ok = :gen_tcp.send(tcp, bytes)
    read_all(tcp, "", timeout)
  end

  defp read_all(tcp, read, timeout) do
    case :gen_tcp.recv(tcp, 0, timeout) do
      {:ok, more} -> read_all(tcp, read <> more, timeout)
      {:error, _closed_or_timeout} -> read
    end
  end

  describe "artifacts" do
    test "bytes come back as they went, with headers that keep browsers from running them", %{
      port: port
    } do
      body = :crypto.strong_rand_bytes(1_000_000)
      id = Base.encode16(:crypto.hash(:sha256, body), case: :lower)

      assert {201, headers, _} = created = upload(port, body)
      assert headers["location"] == "/v1/artifacts/" <> id
      assert json(created) == %{"id" => id, "bytes" => 1_000_000, "media_type" => "text/plain"}
      assert {200, _, _} = upload(port, body)

      assert {200, headers, ^body} = http(port, "GET", "/v1/artifacts/" <> id)
      assert headers["content-type"] == "text/plain"
      assert headers["etag"] == ~s("#{id}")
      assert headers["x-content-type-options"] == "nosniff"
      assert headers["content-security-policy"] =~ "sandbox"
      assert headers["cache-control"] =~ "immutable"

      assert {200, head, ""} = http(port, "HEAD", "/v1/artifacts/" <> id)
      assert head["content-length"] == "1000000"
    end

    test "what browsers could run is offered as a download", %{port: port} do
      {201, headers, _} = upload(port, "<script>", [{"content-type", "text/html"}])
      {200, headers, _} = http(port, "GET", headers["location"])
      assert headers["content-disposition"] =~ ~r/^attachment; filename="koma-[0-9a-f]{12}\.bin"$/
    end

    test "ranges, validators and their combination", %{port: port} do
      {201, %{"location" => path}, _} = upload(port, "0123456789")
      {200, %{"etag" => tag}, _} = http(port, "HEAD", path)

      assert {206, headers, "234"} = http(port, "GET", path, [{"range", "bytes=2-4"}])
      assert headers["content-range"] == "bytes 2-4/10"
      assert {206, _, "89"} = http(port, "GET", path, [{"range", "bytes=-2"}])
      assert {200, _, "0123456789"} = http(port, "GET", path, [{"range", "bytes=0-1,4-5"}])

      assert {416, headers, _} = beyond = http(port, "GET", path, [{"range", "bytes=10-"}])
      assert headers["content-range"] == "bytes */10"
      assert code(beyond) == "range_not_satisfiable"

      assert {304, %{"etag" => ^tag}, ""} = http(port, "GET", path, [{"if-none-match", tag}])
      range = {"range", "bytes=0-0"}
      assert {206, _, "0"} = http(port, "GET", path, [range, {"if-range", tag}])
      assert {200, _, "0123456789"} = http(port, "GET", path, [range, {"if-range", ~s("x")}])
    end

    test "uploads that cannot be taken are refused and leave nothing behind", %{
      port: port,
      dir: dir
    } do
      type = {"content-type", "text/plain"}
      assert {422, _, _} = empty = upload(port, "")
      assert code(empty) == "invalid_media"
      assert {415, _, _} = untyped = upload(port, "x", [])
      assert code(untyped) == "unsupported_media"
      mixed = [{"content-type", "multipart/mixed; boundary=x"}]
      envelope = http(port, "POST", "/v1/artifacts", mixed, "--x\r\n\r\nabc\r\n--x--\r\n")
      assert code(envelope) == "unsupported_media"
      assert {400, _, _} = upload(port, "x", [{"content-type", "nonsense"}])

      assert {400, _, _} = other = upload(port, "x", [type, {"x-content-sha256", "00"}])
      assert code(other) == "digest_mismatch"

      assert {413, _, _} = large = upload(port, String.duplicate("x", 3_000_001))
      assert %{"code" => "too_large", "bound" => 3_000_000} = json(large)["error"]
      assert {201, _, _} = upload(port, String.duplicate("x", 3_000_000))

      assert File.ls!(Path.join(dir, "tmp")) == []
    end

    test "a body without announced length is cut off at the limit", %{port: port} do
      chunk = ["186A0\r\n", String.duplicate("x", 100_000), "\r\n"]

      head =
        "POST /v1/artifacts HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"

      body = for _n <- 1..31, do: chunk
      answer = raw(port, [head, body, "0\r\n\r\n"])
      assert answer =~ "HTTP/1.1 413"
      assert answer =~ "too_large"
    end

    test "an upload whose client goes away leaves nothing behind", %{port: port, dir: dir} do
      tmp = Path.join(dir, "tmp")
      {:ok, tcp} = :gen_tcp.connect('127.0.0.1', port, [:binary, active: false])

      head =
        "POST /v1/artifacts HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain\r\ncontent-length: 900000\r\n\r\n"

      :ok = :gen_tcp.send(tcp, [head, String.duplicate("x", 300_000)])
      assert eventually(fn -> File.ls!(tmp) != [] end)
      :ok = :gen_tcp.close(tcp)
      assert eventually(fn -> File.ls!(tmp) == [] end)
    end

    test "paths never become files", %{port: port} do
      for path <- [
            "/v1/artifacts/..%2F..%2Fetc%2Fpasswd",
            "/v1/artifacts/../../etc/passwd",
            "/v1/artifacts/" <> String.duplicate("0", 64),
            "/v1/artifacts/%00",
            "/static/../../mix.exs"
          ] do
        assert {404, _, _} = http(port, "GET", path)
      end

      # Cowboy refuses a slash in disguise as malformed.
      assert {400, _, ""} = http(port, "GET", "/static/..%2f..%2fmix.exs")
    end
  end

  describe "jobs" do
    test "are accepted with a place to read them, and told when they end", %{port: port} do
      assert {202, headers, _} = accepted = submit(port, %{"task" => "toy.run"})
      id = json(accepted)["id"]
      assert headers["location"] == "/v1/jobs/" <> id
      await_end(id)
      assert %{"state" => "completed"} = json(http(port, "GET", headers["location"]))
      assert [%{"id" => ^id}] = json(http(port, "GET", "/v1/jobs?state=completed&limit=1"))
      assert [] = json(http(port, "GET", "/v1/jobs?state=failed"))
    end

    test "a request that waits gets the finished job, failed ones too", %{port: port} do
      request = %{"task" => "toy.run", "params" => %{"steps" => 5, "step_ms" => 5}}
      assert {200, _, _} = done = submit(port, request, "?wait=true")
      assert %{"state" => "completed", "outputs" => [_]} = json(done)

      request = %{"task" => "toy.run", "params" => %{"fail" => "step"}}
      assert {200, _, _} = done = submit(port, request, "?wait=true")
      assert %{"state" => "failed", "error" => %{"code" => "model_failed"}} = json(done)
    end

    test "a cancel may come twice", %{port: port} do
      request = %{"task" => "toy.run", "params" => %{"steps" => 1000, "step_ms" => 20}}
      id = json(submit(port, request))["id"]
      assert %{"state" => "cancelled"} = json(http(port, "DELETE", "/v1/jobs/" <> id))
      assert {200, _, _} = http(port, "DELETE", "/v1/jobs/" <> id)
      assert {404, _, _} = http(port, "DELETE", "/v1/jobs/none")
    end

    test "that ended are forgotten on request, live ones are not", %{port: port} do
      live =
        json(
          submit(port, %{"task" => "toy.run", "params" => %{"steps" => 10_000, "step_ms" => 20}})
        )

      path = "/v1/jobs/" <> live["id"]
      assert {409, _, _} = refused = http(port, "DELETE", path <> "?forget=true")
      assert %{"code" => "conflict", "field" => "state"} = json(refused)["error"]
      assert {400, _, _} = http(port, "DELETE", path <> "?forget=maybe")
      assert {200, _, _} = http(port, "DELETE", path)
      assert {204, _, ""} = http(port, "DELETE", path <> "?forget=true")
      assert {404, _, _} = http(port, "DELETE", path <> "?forget=true")
      assert {404, _, _} = http(port, "GET", path)
      refute Enum.any?(json(http(port, "GET", "/v1/jobs")), &(&1["id"] == live["id"]))
    end

    test "bodies that are no job are refused with the right status", %{port: port} do
      for {headers, body, status, code} <- [
            {@json, "{", 400, "invalid_json"},
            {@json, "", 400, "invalid_json"},
            {@json, "[]", 400, "invalid_request"},
            {@json, ~s({"task":"toy.run","params":{"steps":NaN}}), 400, "invalid_json"},
            {[], "{}", 415, "unsupported_media"},
            {[{"content-type", "text/json"}], "{}", 415, "unsupported_media"},
            {@json, ~s({"task":"toy.walk"}), 400, "unknown_task"},
            {@json, String.duplicate(" ", 8 * 1024 * 1024 + 1), 413, "too_large"}
          ] do
        answer = http(port, "POST", "/v1/jobs", headers, body)
        assert {elem(answer, 0), code(answer)} == {status, code}
      end
    end

    test "queries are checked", %{port: port} do
      for {path, code} <- [
            {"/v1/jobs?limit=0", "out_of_bounds"},
            {"/v1/jobs?limit=x", "wrong_type"},
            {"/v1/jobs?state=gone", "invalid_value"},
            {"/v1/jobs?stat=x", "unknown_field"},
            {"/v1/jobs?%zz", "invalid_request"}
          ] do
        answer = http(port, "GET", path)
        assert {elem(answer, 0), code(answer)} == {400, code}
      end
    end

    test "pages of other origins cannot submit", %{port: port} do
      answer = http(port, "POST", "/v1/jobs", [{"origin", "http://evil.example"} | @json], "{}")
      assert {elem(answer, 0), code(answer)} == {403, "forbidden"}
    end
  end

  describe "events" do
    defp events(body) do
      for block <- String.split(body, "\n\n", trim: true), block =~ "event:" do
        Map.new(String.split(block, "\n"), fn line ->
          [name, value] = String.split(line, ": ", parts: 2)
          {name, value}
        end)
      end
    end

    test "are told from the first, or after the last one seen, and end with the job", %{
      port: port
    } do
      job = submit!(%{"steps" => 20, "step_ms" => 10, "preview_bytes" => 100})
      path = "/v1/jobs/#{job["id"]}/events"
      assert {200, headers, body} = http(port, "GET", path)
      assert headers["content-type"] == "text/event-stream"
      all = events(body)
      seqs = for %{"id" => seq} <- all, do: String.to_integer(seq)
      assert seqs == Enum.to_list(1..length(seqs))
      assert %{"event" => "completed"} = List.last(all)
      previews = for %{"event" => "preview"} = preview <- all, do: preview
      assert previews != []
      for preview <- previews, do: refute(is_map_key(preview, "id"))

      last = length(seqs)
      seen = [{"last-event-id", "#{last - 2}"}]
      assert {200, _, body} = http(port, "GET", path, seen)
      assert Enum.map(events(body), & &1["id"]) == ["#{last - 1}", "#{last}"]
      assert {204, _, ""} = http(port, "GET", path, [{"last-event-id", "#{last}"}])
    end

    test "are told to several at once, and without previews to who wants none", %{port: port} do
      job = submit!(%{"steps" => 20, "step_ms" => 10, "preview_bytes" => 100})
      path = "/v1/jobs/#{job["id"]}/events?previews=none"
      tasks = for _n <- 1..3, do: Task.async(fn -> http(port, "GET", path) end)
      [{200, _, one}, {200, _, two}, {200, _, three}] = Task.await_many(tasks, 20_000)
      assert one == two and two == three
      refute one =~ "event: preview"
    end

    test "go on over the death of the job's process", %{port: port} do
      job = submit!(%{"steps" => 40, "step_ms" => 10})
      path = "/v1/jobs/#{job["id"]}/events"
      reader = Task.async(fn -> http(port, "GET", path) end)
      await_step(job["id"])
      Process.exit(Koma.Job.Processes.whereis(job["id"]), :kill)
      {200, _, body} = Task.await(reader, 20_000)
      seqs = for %{"id" => seq} <- events(body), do: String.to_integer(seq)
      assert seqs == Enum.to_list(1..length(seqs))
      assert %{"event" => "completed"} = body |> events() |> List.last()
    end

    test "of nothing known, or from a wrong place, are refused", %{port: port} do
      assert {404, _, _} = http(port, "GET", "/v1/jobs/none/events")
      assert {404, _, _} = http(port, "GET", "/v1/pipelines/none/events")
      job = submit!()
      path = "/v1/jobs/#{job["id"]}/events"
      assert {400, _, _} = http(port, "GET", path, [{"last-event-id", "x"}])
      assert {400, _, _} = http(port, "GET", path <> "?previews=binary")
    end
  end

  describe "every route" do
    test "tells the methods that it takes", %{port: port} do
      for {method, path, allow} <- [
            {"PUT", "/v1/jobs", "GET, HEAD, POST"},
            {"POST", "/v1/jobs/x", "GET, HEAD, DELETE"},
            {"GET", "/v1/artifacts", "POST"},
            {"DELETE", "/v1/artifacts/x", "GET, HEAD"},
            {"POST", "/v1/models", "GET, HEAD"},
            {"GET", "/v1/pipelines", "POST"},
            {"POST", "/health/live", "GET, HEAD"}
          ] do
        assert {405, headers, _} = answer = http(port, method, path)
        assert headers["allow"] == allow
        assert code(answer) == "method_not_allowed"
      end
    end

    test "that is not there is not found, with a code", %{port: port} do
      for path <- ["/v1", "/v1/jobs/x/y", "/v2/jobs", "/socket", "/v1/jobs/%ff", "/v1/jobs/%00"] do
        assert {404, _, _} = answer = http(port, "GET", path)
        assert code(answer) == "not_found"
      end
    end

    test "is a page that may load from this server only", %{port: port} do
      assert {200, headers, body} = http(port, "GET", "/")
      assert headers["content-type"] == "text/html; charset=utf-8"
      assert headers["content-security-policy"] =~ "default-src 'none'; script-src 'self';"
      assert headers["content-security-policy"] =~ "trusted-types 'none'"
      assert headers["x-frame-options"] == "DENY"
      refute body =~ ~r/<script(?![^>]* src=)|<style| style=| on[a-z]+=|https?:/
      assert {405, _, _} = http(port, "POST", "/")
    end

    test "tells models and health", %{port: port} do
      assert %{"object" => "list", "data" => [%{"id" => "toy"} = model]} =
               json(http(port, "GET", "/v1/models"))

      assert %{"family" => "toy", "object" => "model", "tasks" => %{"toy.run" => _}} = model
      assert model["created"] in 1_700_000_000..System.system_time(:second)
      assert json(http(port, "GET", "/v1/models/toy")) == model

      assert {404, _, _} = answer = http(port, "GET", "/v1/models/tyo")

      assert %{
               "error" => %{"type" => "invalid_request_error", "param" => "model", "message" => m}
             } = json(answer)

      assert m =~ "known are toy"

      assert {200, _, _} = http(port, "GET", "/health/live")
      assert {200, _, _} = http(port, "GET", "/health/ready")
    end
  end

  test "readiness follows the model nodes and names those missing", %{port: port} do
    [row] = Koma.ModelNode.Catalogue.rows()
    System.cmd("kill", ["-9", "#{row.ready.pid}"])

    assert eventually(fn ->
             match?({503, _, _}, http(port, "GET", "/health/ready"))
           end)

    assert eventually(fn -> match?({200, _, _}, http(port, "GET", "/health/ready")) end)
  end

  test "a client that sends its body too slowly is told and let go", %{port: port} do
    head =
      "POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"

    assert raw(port, head, 20_000) =~ ~r/HTTP\/1.1 408 .*request_timeout/s
  end

  describe "counts" do
    defp count(port, request) do
      http(port, "POST", "/v1/count", @json, Koma.JSON.encode!(request))
    end

    test "a task without a prompt has nothing to count, and a job is none of it", %{port: port} do
      answer = count(port, %{"task" => "toy.run", "params" => %{"steps" => 3}})
      assert {elem(answer, 0), json(answer)} == {200, %{}}
      assert json(http(port, "GET", "/v1/jobs")) == []
    end

    test "what is no draft of a job is refused with the field", %{port: port} do
      for {request, code, field} <- [
            {%{"params" => %{}}, "missing_field", "task"},
            {%{"task" => "toy.walk"}, "unknown_task", "task"},
            {%{"task" => "toy.run", "params" => %{"steps" => 0}}, "out_of_bounds", "steps"},
            {%{"task" => "toy.run", "params" => [1]}, "wrong_type", "params"},
            {%{"task" => "toy.run", "inputs" => %{}}, "unknown_field", "inputs"}
          ] do
        error = json(count(port, request))["error"]
        assert {error["code"], error["field"]} == {code, field}
      end

      large = %{"task" => "toy.run", "params" => %{"prompt" => String.duplicate("x", 70_000)}}
      assert code(count(port, large)) == "too_large"
      assert {405, _, _} = http(port, "GET", "/v1/count")
    end

    test "a busy model node counts beside its jobs", %{port: port} do
      job =
        json(submit(port, %{"task" => "toy.run", "params" => %{"steps" => 500, "step_ms" => 50}}))

      assert eventually(fn ->
               json(http(port, "GET", "/v1/jobs/" <> job["id"]))["state"] == "running"
             end)

      assert {200, _, _} = count(port, %{"task" => "toy.run"})
      assert json(http(port, "GET", "/v1/jobs/" <> job["id"]))["state"] == "running"
      assert {200, _, _} = http(port, "DELETE", "/v1/jobs/" <> job["id"])
    end

    test "without a model node that is ready the answer is unavailable", %{port: port} do
      :ok = Koma.ModelNode.order("toy-1", :drain)
      assert eventually(fn -> code(count(port, %{"task" => "toy.run"})) == "unavailable" end)
      :ok = Koma.ModelNode.order("toy-1", :resume)
      assert eventually(fn -> match?({200, _, _}, count(port, %{"task" => "toy.run"})) end)
    end
  end

  test "several requests go over one connection", %{port: port} do
    request = "GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n"
    last = "GET /health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    answer = raw(port, [request, request, last])
    assert length(String.split(answer, "HTTP/1.1 200")) == 4
  end

  test "while the core restarts the answer is unavailable, and connections stay", %{port: port} do
    socket = connect(port)
    join!(socket, "jobs")

    :ok = Supervisor.terminate_child(Koma.Core, Koma.Job.Processes)
    answer = submit(port, %{"task" => "toy.run"})
    assert {elem(answer, 0), code(answer)} == {503, "unavailable"}
    refusal = ask(socket, "jobs", "submit", %{"task" => "toy.run"})
    assert %{"status" => "error", "response" => %{"code" => "unavailable"}} = refusal
    {:ok, _pid} = Supervisor.restart_child(Koma.Core, Koma.Job.Processes)
    assert %{"status" => "ok"} = ask(socket, "jobs", "submit", %{"task" => "toy.run"})

    # The first part of the core takes all the others with it.
    Process.exit(Process.whereis(Koma.Store), :kill)
    assert eventually(fn -> match?({202, _, _}, submit(port, %{"task" => "toy.run"})) end)
    assert %{"status" => "ok"} = ask(socket, "jobs", "submit", %{"task" => "toy.run"})
  end
end
