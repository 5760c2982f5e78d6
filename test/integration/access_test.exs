defmodule Koma.AccessTest do
  @moduledoc "Who is let in, what one key sees of another, and how much a key may use: over real sockets."
  use Koma.EdgeCase

  alias Koma.Access
  alias Koma.Access.Usage

  @json {"content-type", "application/json"}
  @absent_job "job_" <> String.duplicate("a", 26)
  @absent_pipeline "pl_" <> String.duplicate("a", 26)
  @absent_artifact String.duplicate("0", 64)

  defp start(dir, settings \\ "", options \\ []) do
    keys = key("a", settings) <> key("b", settings) <> key("boss", "roles=operator")
    start_server(dir, [keys: keys] ++ options)
  end

  defp as(id), do: {"x-api-key", secret(id)}

  defp open(port, id, query \\ "vsn=2.0.0"), do: connect(port, query, [as(id)])

  defp submit(port, id, params \\ %{"steps" => 1}, query \\ "") do
    body = Koma.JSON.encode!(%{"task" => "toy.run", "params" => params})
    http(port, "POST", "/v1/jobs" <> query, [@json, as(id)], body)
  end

  # As the official client offers its authToken.
  defp offered(secret) do
    token = Base.encode64(secret, padding: false)
    {"sec-websocket-protocol", "phoenix, base64url.bearer.phx." <> token}
  end

  defp upload(port, id, bytes) do
    http(port, "POST", "/v1/artifacts", [{"content-type", "text/plain"}, as(id)], bytes)
  end

  defp code(answer), do: json(answer)["error"]["code"]

  defp refusal(port, query, headers) do
    assert_raise(RuntimeError, fn -> connect(port, query, headers) end).message
  end

  describe "a key" do
    setup %{dir: dir}, do: {:ok, port: start(dir)}

    test "comes in any of the documented places, for routes and for sockets", %{port: port} do
      for {query, headers} <- [
            {"", [{"authorization", "Bearer " <> secret("a")}]},
            {"", [{"authorization", "bearer  " <> secret("a")}]},
            {"", [{"x-api-key", secret("a")}]},
            {"", [{"x-auth-token", secret("a")}]},
            {"", [offered(secret("a"))]},
            {"api_key=" <> secret("a"), []}
          ] do
        assert {200, _, "[]"} = http(port, "GET", "/v1/jobs?" <> query, headers)
        socket = connect(port, "vsn=2.0.0&" <> query, headers)
        assert %{"version" => _} = join!(socket, "jobs")
      end
    end

    test "that is missing or wrong is refused everywhere: 401 for routes, 403 for sockets",
         %{port: port} do
      for headers <- [
            [],
            [{"x-api-key", "wrong"}],
            [{"x-api-key", ""}],
            [{"authorization", "Basic " <> secret("a")}],
            [{"authorization", secret("a")}],
            [offered("wrong")],
            [{"cookie", "api_key=#{secret("a")}; x-api-key=#{secret("a")}"}],
            # The first place counts: a second try in another one is not looked at.
            [{"authorization", "Bearer wrong"}, as("a")]
          ] do
        for {method, path} <- [
              {"GET", "/v1/jobs"},
              {"POST", "/v1/jobs"},
              {"GET", "/v1/models"},
              {"GET", "/metrics"},
              {"POST", "/v1/artifacts"},
              {"GET", "/v1/artifacts/" <> @absent_artifact},
              {"POST", "/v1/pipelines"},
              {"GET", "/v1/jobs/#{@absent_job}/events"}
            ] do
          answer = {status, answered, _body} = http(port, method, path, headers)
          assert {status, code(answer)} == {401, "unauthorized"}
          assert answered["www-authenticate"] == "Bearer"
        end

        assert refusal(port, "vsn=2.0.0", headers) == "refused: 403"
      end
    end

    test "is not needed for health and the page", %{port: port} do
      for path <- ["/health/live", "/health/ready", "/"],
          do: assert({200, _, _} = http(port, "GET", path))

      assert {404, _, _} = http(port, "GET", "/nowhere")
    end

    test "needs a role for the metrics", %{port: port} do
      assert {403, _, _} = answer = http(port, "GET", "/metrics", [as("a")])
      assert code(answer) == "forbidden"
      assert {200, _, text} = http(port, "GET", "/metrics", [as("boss")])
      assert text =~ ~s(koma_access_refused_total{code="forbidden"} 1)
    end

    test "says who is operator" do
      for {id, operator?} <- [{"a", false}, {"boss", true}] do
        {:ok, caller} = Access.authenticate(secret(id))
        assert Access.operator?(caller) == operator?
      end
    end
  end

  test "only who has a key learns which model nodes are missing", %{dir: dir} do
    port = start(dir, "", wait: false, node_command: scripted("silent"))
    assert {503, _, _} = unknown = http(port, "GET", "/health/ready")
    assert json(unknown) == %{"status" => "unavailable"}
    assert {503, _, _} = wrong = http(port, "GET", "/health/ready", [{"x-api-key", "wrong"}])
    assert json(wrong) == %{"status" => "unavailable"}
    assert {503, _, _} = known = http(port, "GET", "/health/ready", [as("a")])
    assert %{"missing" => [%{"node" => "toy-1"}]} = json(known)
  end

  describe "one key and another" do
    setup %{dir: dir}, do: {:ok, port: start(dir)}

    test "see their own jobs in the list", %{port: port} do
      {202, _, _} = submit(port, "a")
      assert [_job] = json(http(port, "GET", "/v1/jobs", [as("a")]))
      assert [] = json(http(port, "GET", "/v1/jobs", [as("b")]))
      # An operator acts on the server, and reads no more than others.
      assert [] = json(http(port, "GET", "/v1/jobs", [as("boss")]))
    end

    test "get of the other's jobs, pipelines and artifacts what they get of absent ones",
         %{port: port} do
      job = json(submit(port, "a", %{"steps" => 10_000, "step_ms" => 5}))["id"]
      artifact = json(upload(port, "a", "secret bytes"))["id"]
      stages = [%{"name" => "one", "task" => "toy.run", "params" => %{}, "inputs" => %{}}]
      body = Koma.JSON.encode!(%{"stages" => stages, "inputs" => %{}})
      pipeline = json(http(port, "POST", "/v1/pipelines", [@json, as("a")], body))["id"]

      for {method, path, id, absent} <- [
            {"GET", "/v1/jobs/ID", job, @absent_job},
            {"DELETE", "/v1/jobs/ID", job, @absent_job},
            {"DELETE", "/v1/jobs/ID?forget=true", job, @absent_job},
            {"GET", "/v1/jobs/ID/events", job, @absent_job},
            {"GET", "/v1/pipelines/ID", pipeline, @absent_pipeline},
            {"DELETE", "/v1/pipelines/ID", pipeline, @absent_pipeline},
            {"GET", "/v1/pipelines/ID/events", pipeline, @absent_pipeline},
            {"GET", "/v1/artifacts/ID", artifact, @absent_artifact},
            {"HEAD", "/v1/artifacts/ID", artifact, @absent_artifact}
          ] do
        assert answer(port, method, path, id) == answer(port, method, path, absent)
        assert {404, _headers, _body} = answer(port, method, path, id)
      end

      etag = [{"if-none-match", ~s("#{artifact}")}, {"range", "bytes=0-3"}]
      path = "/v1/artifacts/" <> artifact
      assert {404, _, _} = http(port, "GET", path, [as("b") | etag])
      assert {304, headers, _} = http(port, "GET", path, [as("a") | etag])
      assert headers["cache-control"] =~ "private"
    end

    defp answer(port, method, path, id) do
      path = String.replace(path, "ID", id)
      {status, headers, body} = http(port, method, path, [as("b")])
      {status, Map.drop(headers, ["date", "content-length"]), String.replace(body, id, "ID")}
    end

    test "cannot follow or cancel the other's jobs over a socket", %{port: port} do
      job = json(submit(port, "a", %{"steps" => 10_000, "step_ms" => 5}))["id"]
      socket = open(port, "b")
      join!(socket, "jobs")

      for {event, id, absent} <- [
            {"cancel", job, @absent_job},
            {"cancel_pipeline", @absent_pipeline, String.replace(@absent_pipeline, "a", "b")}
          ] do
        of_other = ask(socket, "jobs", event, %{"id" => id})
        of_absent = ask(socket, "jobs", event, %{"id" => absent})
        assert of_other["response"]["code"] == "not_found"
        assert same(of_other, id) == same(of_absent, absent)
      end

      assert same(refused_join(socket, job), job) ==
               same(refused_join(socket, @absent_job), @absent_job)

      assert {200, _, _} = answer = http(port, "GET", "/v1/jobs/" <> job, [as("a")])
      assert json(answer)["state"] in ~w(queued running)
    end

    defp refused_join(socket, id) do
      push(socket, ["1", "1", "job:" <> id, "phx_join", %{}])
      [_, _, _topic, "phx_reply", %{"status" => "error"} = reply] = next(socket)
      reply
    end

    defp same(reply, id),
      do: reply |> Koma.JSON.encode!() |> to_string() |> String.replace(id, "ID")

    test "cannot use the other's artifact as an input, in jobs and in pipelines", %{port: port} do
      id = json(upload(port, "a", "secret bytes"))["id"]
      body = Koma.JSON.encode!(%{"task" => "toy.run", "inputs" => %{"file" => id}})
      assert {202, _, _} = http(port, "POST", "/v1/jobs", [@json, as("a")], body)
      assert {404, _, _} = answer = http(port, "POST", "/v1/jobs", [@json, as("b")], body)
      assert %{"code" => "artifact_not_found", "field" => "inputs.file"} = json(answer)["error"]

      stage = %{"name" => "one", "task" => "toy.run", "inputs" => %{"file" => id}}
      body = Koma.JSON.encode!(%{"stages" => [stage]})
      answer = http(port, "POST", "/v1/pipelines", [@json, as("b")], body)
      pipeline = json(answer)["id"]
      path = "/v1/pipelines/" <> pipeline
      eventually(fn -> json(http(port, "GET", path, [as("b")]))["state"] == "failed" end)
      assert %{"code" => "artifact_not_found"} = json(http(port, "GET", path, [as("b")]))["error"]
    end

    test "who upload the same bytes both get 201, and see them", %{port: port} do
      assert {201, _, _} = upload(port, "a", "same")
      assert {201, _, body} = upload(port, "b", "same")
      assert {200, _, _} = upload(port, "b", "same")
      {:ok, %{"id" => id}} = Koma.JSON.decode(body)

      for key <- ["a", "b"],
          do: assert({200, _, "same"} = http(port, "GET", "/v1/artifacts/" <> id, [as(key)]))
    end
  end

  describe "limits of a key:" do
    test "requests a second, for routes, handshakes, joins and pushes", %{dir: dir} do
      port = start(dir, "rate=1 burst=4")
      socket = open(port, "a")
      join!(socket, "jobs")
      assert %{"status" => "ok"} = ask(socket, "jobs", "submit", %{"task" => "toy.run"})

      refused =
        eventually_refused(fn -> ask(socket, "jobs", "cancel", %{"id" => @absent_job}) end)

      assert %{"retry_after_ms" => retry, "bound" => 1} = refused
      assert retry in 1..1_000

      exhaust("a")
      assert {429, headers, _} = answer = http(port, "GET", "/v1/jobs", [as("a")])
      assert %{"code" => "rate_limited", "field" => "rate"} = json(answer)["error"]
      assert headers["retry-after"] == "1"
      exhaust("a")
      assert refusal(port, "vsn=2.0.0", [as("a")]) == "refused: 429"
      exhaust("a")
      push(socket, ["9", "9", "job:" <> @absent_job, "phx_join", %{}])
      assert [_, _, _, "phx_reply", %{"response" => %{"code" => "rate_limited"}}] = next(socket)

      # Heartbeats are free, and so is the other key.
      push(socket, [nil, "10", "phoenix", "heartbeat", %{}])
      assert [nil, "10", "phoenix", "phx_reply", %{"status" => "ok"}] = next(socket)
      assert {200, _, _} = http(port, "GET", "/v1/jobs", [as("b")])
    end

    defp eventually_refused(ask) do
      case ask.() do
        %{"response" => %{"code" => "rate_limited"} = refused} -> refused
        %{"response" => %{"code" => "not_found"}} -> eventually_refused(ask)
      end
    end

    # Whatever time has passed, the bucket is empty afterwards.
    defp exhaust(id) do
      if Usage.request(id, 1, 4) == :ok, do: exhaust(id)
    end

    test "open sockets and event streams", %{dir: dir} do
      port = start(dir, "sockets=2")
      first = open(port, "a")
      {gun, _stream} = open(port, "a")
      assert refusal(port, "vsn=2.0.0", [as("a")]) == "refused: 429"
      open(port, "b")

      job = json(submit(port, "a"))["id"]
      assert {429, _, _} = answer = http(port, "GET", "/v1/jobs/#{job}/events", [as("a")])

      assert %{"code" => "limit_reached", "field" => "sockets", "bound" => 2} =
               json(answer)["error"]

      jobs = length(json(http(port, "GET", "/v1/jobs", [as("a")])))
      assert {429, _, _} = submit(port, "a", %{"steps" => 1}, "?wait=true")
      assert jobs == length(json(http(port, "GET", "/v1/jobs", [as("a")])))

      :gun.close(gun)
      eventually(fn -> Usage.held("a", :sockets) == 1 end)
      assert {200, _, _} = http(port, "GET", "/v1/jobs/#{job}/events", [as("a")])
      eventually(fn -> Usage.held("a", :sockets) == 1 end)
      assert {200, _, _} = submit(port, "a", %{"steps" => 1}, "?wait=true")
      join!(first, "jobs")
    end

    test "joined topics of all sockets together", %{dir: dir} do
      port = start(dir, "topics=2")
      [first, second] = [open(port, "a"), open(port, "a")]
      join!(first, "jobs")
      job = json(submit(port, "a", %{"steps" => 10_000, "step_ms" => 5}))["id"]
      join!(second, "job:" <> job)
      push(second, ["1", "1", "jobs", "phx_join", %{}])
      refused = second |> read_until(&match?([_, _, "jobs", _, _], &1)) |> List.last()
      assert [_, _, _, _, %{"response" => %{"code" => "limit_reached", "bound" => 2}}] = refused

      # Who joins again takes the place of the earlier join.
      join!(first, "jobs")
      push(first, ["jjobs", "2", "jobs", "phx_leave", %{}])
      eventually(fn -> Usage.held("a", :topics) == 1 end)
      join!(second, "jobs")

      # What is refused by the topic itself holds nothing.
      {gun, _} = second
      :gun.close(gun)
      eventually(fn -> Usage.held("a", :topics) == 0 end)
      push(first, ["7", "7", "job:" <> @absent_job, "phx_join", %{}])
      read_until(first, &match?([_, "7", _, "phx_reply", _], &1))
      eventually(fn -> Usage.held("a", :topics) == 0 end)
    end

    test "jobs that have not ended, exactly", %{dir: dir} do
      port = start(dir, "jobs=3")
      slow = %{"steps" => 10_000, "step_ms" => 5}

      answers =
        1..8
        |> Task.async_stream(fn _ -> submit(port, "a", slow) end, max_concurrency: 8)
        |> Enum.map(fn {:ok, answer} -> answer end)

      {accepted, refused} = Enum.split_with(answers, &match?({202, _, _}, &1))
      assert length(accepted) == 3

      for {status, headers, _} = answer <- refused do
        assert {status, code(answer)} == {429, "limit_reached"}
        assert headers["retry-after"] == "1"
      end

      assert {202, _, _} = submit(port, "b", slow)
      {200, _, _} = http(port, "DELETE", "/v1/jobs/" <> json(hd(accepted))["id"], [as("a")])
      assert {202, _, _} = submit(port, "a", slow)
    end

    test "jobs a day; what was refused does not count", %{dir: dir} do
      port = start(dir, "jobs_per_day=2 jobs=1")
      job = json(submit(port, "a", %{"steps" => 10_000, "step_ms" => 5}))["id"]
      for _ <- 1..3, do: assert({429, _, _} = submit(port, "a"))
      {200, _, _} = http(port, "DELETE", "/v1/jobs/" <> job, [as("a")])
      assert {202, _, _} = submit(port, "a")
      eventually(fn -> Koma.Store.Jobs.live("a") == 0 end)
      assert {429, headers, _} = answer = submit(port, "a")
      assert %{"code" => "quota_exceeded", "field" => "jobs_per_day"} = json(answer)["error"]
      assert String.to_integer(headers["retry-after"]) in 1..86_400
      assert {202, _, _} = submit(port, "b")
    end

    test "bytes uploaded in a day and stored, announced or not", %{dir: dir} do
      port = start(dir, "bytes_per_day=1000 stored_bytes=600")
      assert {201, _, _} = upload(port, "a", String.duplicate("x", 500))
      assert {429, headers, _} = answer = upload(port, "a", String.duplicate("y", 101))
      assert %{"code" => "quota_exceeded", "field" => "stored_bytes"} = json(answer)["error"]
      assert headers["retry-after"] == "3600"
      assert chunked(port, "a", String.duplicate("y", 101)) =~ "stored_bytes"
      # The same bytes again take no room, and count as sent.
      assert {429, _, _} = upload(port, "a", String.duplicate("x", 500))
      assert {201, _, _} = upload(port, "a", String.duplicate("z", 100))
      assert Usage.spent("a", :bytes_per_day) == 600
      assert {201, _, _} = upload(port, "b", String.duplicate("z", 600))
      assert {429, _, _} = answer = upload(port, "b", String.duplicate("z", 401))
      assert json(answer)["error"]["field"] == "bytes_per_day"
      eventually(fn -> Usage.held("a", :stored_bytes) == 0 end)
    end

    defp chunked(port, id, bytes) do
      head =
        "POST /v1/artifacts HTTP/1.1\r\nhost: localhost\r\nx-api-key: #{secret(id)}\r\n" <>
          "content-type: text/plain\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"

      size = Integer.to_string(byte_size(bytes), 16)
      {:ok, tcp} = :gen_tcp.connect('127.0.0.1', port, [:binary, active: false])
      :ok = :gen_tcp.send(tcp, [head, size, "\r\n", bytes, "\r\n0\r\n\r\n"])
      {:ok, answer} = :gen_tcp.recv(tcp, 0, 5_000)
      answer
    end

    test "uploads at the same time", %{dir: dir} do
      port = start(dir, "uploads=1")

      head =
        "POST /v1/artifacts HTTP/1.1\r\nhost: localhost\r\nx-api-key: #{secret("a")}\r\n" <>
          "content-type: text/plain\r\ncontent-length: 9000\r\n\r\n"

      {:ok, tcp} = :gen_tcp.connect('127.0.0.1', port, [:binary, active: false])
      :ok = :gen_tcp.send(tcp, head)
      eventually(fn -> Usage.held("a", :uploads) == 1 end)
      assert {429, _, _} = answer = upload(port, "a", "x")
      assert %{"code" => "limit_reached", "field" => "uploads"} = json(answer)["error"]
      :gen_tcp.close(tcp)
      eventually(fn -> Usage.held("a", :uploads) == 0 end)
      assert {201, _, _} = upload(port, "a", "x")
    end

    test "a pipeline waits for room for its jobs instead of failing", %{dir: dir} do
      port = start(dir, "jobs=1")
      stages = for name <- ["one", "two"], do: %{"name" => name, "task" => "toy.run"}
      body = Koma.JSON.encode!(%{"stages" => stages})
      pipeline = json(http(port, "POST", "/v1/pipelines", [@json, as("a")], body))["id"]
      path = "/v1/pipelines/" <> pipeline
      eventually(fn -> json(http(port, "GET", path, [as("a")]))["state"] == "completed" end)
    end
  end

  describe "when the keys change" do
    test "sockets and streams of a key that is gone end; those of others go on", %{dir: dir} do
      {port, path} = start_with_file(dir, key("a") <> key("b"))
      [of_a, of_b] = [open(port, "a"), open(port, "b")]
      join!(of_b, "jobs")
      job = json(submit(port, "a", %{"steps" => 10_000, "step_ms" => 5}))["id"]
      {:ok, gun} = :gun.open('127.0.0.1', port, %{retry: 0})
      stream = :gun.get(gun, "/v1/jobs/#{job}/events", [as("a")])
      {:response, :nofin, 200, _headers} = :gun.await(gun, stream)

      File.write!(path, key("b"))
      assert Access.reload() == :ok

      assert {:close, 1008, "unauthorized"} =
               of_a |> read_until(&match?({:close, _, _}, &1)) |> List.last()

      {:ok, _events} = :gun.await_body(gun, stream, 5_000)
      assert {401, _, _} = http(port, "GET", "/v1/jobs", [as("a")])
      assert refusal(port, "vsn=2.0.0", [as("a")]) == "refused: 403"
      assert %{"status" => "ok"} = ask(of_b, "jobs", "submit", %{"task" => "toy.run"})
      # Its jobs are accepted, and go on.
      assert {:ok, %{"state" => state}} = Koma.job(job, %Caller{key: "a"})
      assert state in ~w(queued running)
    end

    test "a socket looks now and then by itself whether its key is still there", %{dir: dir} do
      {port, path} = start_with_file(dir, key("a"))
      socket = open(port, "a")
      eventually(fn -> length(sockets()) == 1 end)
      # Whoever would tell it is dead, and knows no sockets when it is back.
      usage = Process.whereis(Usage)
      Process.exit(usage, :kill)
      eventually(fn -> Process.whereis(Usage) not in [nil, usage] end)
      File.write!(path, key("b"))
      assert Access.reload() == :ok
      push(socket, [nil, "1", "phoenix", "heartbeat", %{}])
      assert [nil, "1", "phoenix", "phx_reply", _reply] = next(socket)
      send(hd(sockets()), :koma_idle_check)
      assert {:close, 1008, "unauthorized"} = next(socket)
    end

    test "who waits for a job with a key that is taken away is told", %{dir: dir} do
      {port, path} = start_with_file(dir, key("a"))

      slow =
        Task.async(fn -> submit(port, "a", %{"steps" => 10_000, "step_ms" => 5}, "?wait=true") end)

      eventually(fn -> Koma.Store.Jobs.live("a") == 1 and Usage.held("a", :sockets) == 1 end)
      File.write!(path, key("b"))
      assert Access.reload() == :ok
      assert {401, _, _} = Task.await(slow)
    end

    test "a new secret works beside the old one, and is the same key", %{dir: dir} do
      {port, path} = start_with_file(dir, key("a"))
      job = json(submit(port, "a"))["id"]
      [digest] = Regex.run(~r/sha256:\w+/, key("next"))
      File.write!(path, String.replace(key("a"), "sha256:", digest <> " sha256:"))
      assert Access.reload() == :ok

      for id <- ["a", "next"],
          do: assert({200, _, _} = http(port, "GET", "/v1/jobs/" <> job, [as(id)]))

      File.write!(path, "a #{digest}")
      assert Access.reload() == :ok
      assert {401, _, _} = http(port, "GET", "/v1/jobs/" <> job, [as("a")])
      assert {200, _, _} = http(port, "GET", "/v1/jobs/" <> job, [as("next")])
    end

    test "a socket whose key has another role connects again; other limits count at once", %{
      dir: dir
    } do
      {port, path} = start_with_file(dir, key("a", "roles=operator") <> key("b"))
      of_a = open_raw(port, "x-api-key: #{secret("a")}\r\n")
      of_b = open(port, "b")
      File.write!(path, key("a") <> key("b", "sockets=1"))
      assert Access.reload() == :ok
      assert {:ok, restart_frame()} == :gen_tcp.recv(of_a, 0, 5_000)
      join!(of_b, "jobs")
      assert refusal(port, "vsn=2.0.0", [as("b")]) == "refused: 429"
    end

    test "the queue takes the new weights", %{dir: dir} do
      {_port, path} = start_with_file(dir, key("a") <> key("b"))
      File.write!(path, key("a", "weight=7") <> key("b"))
      assert Access.reload() == :ok
      [{queue, _}] = Registry.lookup(Koma.Queue.Registry, "toy")
      assert :sys.get_state(queue).line.weights == %{"a" => 7, "b" => 1}
    end

    defp start_with_file(dir, text) do
      path = Path.join(dir, "keys")
      File.write!(path, text)
      {start_server(dir, keys_file: path), path}
    end
  end

  describe "without keys" do
    test "everybody on loopback is operator, and sees all artifacts", %{dir: dir} do
      port = start_server(dir)
      assert {:ok, %Caller{key: nil} = caller} = Access.authenticate(nil)
      assert Access.operator?(caller)

      assert {201, _, body} =
               http(port, "POST", "/v1/artifacts", [{"content-type", "text/plain"}], "x")

      {:ok, %{"id" => id}} = Koma.JSON.decode(body)
      assert {200, headers, "x"} = http(port, "GET", "/v1/artifacts/" <> id, [as("whoever")])
      assert headers["cache-control"] =~ "public"
      assert {200, _, _} = http(port, "GET", "/metrics")
    end
  end
end
