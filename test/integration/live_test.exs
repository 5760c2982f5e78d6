defmodule Koma.LiveTest do
  @moduledoc "The dashboard over real sockets, as LiveView's client speaks; tests/browser has the client itself."
  use Koma.EdgeCase

  alias Koma.CoreCase
  alias Koma.Dashboard.Sampler
  alias Koma.Live.{Session, Token}
  alias Koma.Secret

  # The page is told of states that last, five times a second at most: loading takes that long here.
  @slow %{options: %{"load_ms" => 1000}}

  test "a model node that is killed is told at once, and again when it is up", %{dir: dir} do
    port = start_server(dir, models: [CoreCase.toy(@slow)])
    page = open(port)
    {socket, rendered} = join(port, page)
    [nodes] = for {at, html} <- rendered, is_binary(html), html =~ "data-node", do: at
    {_, 0} = System.cmd("kill", ["-KILL", "#{Koma.ModelNode.os_pid("toy-1")}"])
    diffs(socket, &(&1[nodes] && &1[nodes] =~ ~s(class="card bad")))
    diffs(socket, &(&1[nodes] && &1[nodes] =~ ~s(data-state="ready")))
  end

  describe "without keys" do
    setup %{dir: dir} do
      {:ok, port: start_server(dir)}
    end

    test "a join is answered with the tree of the page, every dynamic a string", %{port: port} do
      page = open(port)
      {socket, rendered} = join(port, page)
      {statics, dynamics} = Map.pop!(rendered, "s")
      assert length(statics) == map_size(dynamics) + 1
      assert Enum.all?(dynamics, fn {_position, panel} -> is_binary(panel) end)
      assert dynamics |> Map.values() |> Enum.any?(&(&1 =~ ~s(data-node="toy-1")))

      assert ask_event(socket, page, "no such event", %{}) == %{
               "status" => "ok",
               "response" => %{}
             }
    end

    test "the page before the join shows the same as after it", %{port: port} do
      page = open(port)
      {_socket, rendered} = join(port, page)
      assert page.html =~ rendered["1"]
      assert page.headers["content-security-policy"] =~ "script-src 'self'"
      assert page.headers["set-cookie"] =~ ~r/HttpOnly/i
      assert page.headers["set-cookie"] =~ ~r/SameSite=Strict/i
    end

    test "what changed goes as a diff of that panel; an idle server sends nothing", %{port: port} do
      page = open(port)
      {socket, _rendered} = join(port, page)
      job = submit!(%{"steps" => 1})
      await_end(job["id"])
      [%{} = diff | _] = diffs(socket, &Enum.any?(&1, fn {_, html} -> html =~ job["id"] end))
      refute Map.has_key?(diff, "s")
    end

    test "a filter changes the address; the job in the address is shown", %{port: port} do
      page = open(port)
      {socket, _rendered} = join(port, page)
      value = "state=failed&_unused_family=&family=&key="
      push(socket, ["1", "9", page.topic, "event", event("form", "filter", value)])
      frames = read_seen(socket, &match?([_, "9", _, "phx_reply", _], &1))

      assert [_, _, _, "live_patch", patch] =
               Enum.find(frames, &match?([_, _, _, "live_patch", _], &1))

      assert patch == %{"kind" => "replace", "to" => "/dashboard?state=failed"}

      job = submit!(%{"steps" => 1})
      await_end(job["id"])
      url = "http://127.0.0.1/dashboard?job=#{job["id"]}"
      push(socket, ["1", "10", page.topic, "live_patch", %{"url" => url}])
      diffs(socket, &Enum.any?(&1, fn {_, html} -> html =~ "Events of the job" end))
    end

    test "an action is asked, confirmed once, done and told", %{port: port} do
      page = open(port)
      {socket, _rendered} = join(port, page)
      click(socket, page, "ask", %{"do" => "pause", "on" => "toy"})
      diffs(socket, &Enum.any?(&1, fn {_, html} -> html =~ "Pause toy?" end))
      refute Koma.Queue.depth("toy", 1_000).paused
      click(socket, page, "confirm", %{})
      diffs(socket, &Enum.any?(&1, fn {_, html} -> html =~ "notice good" end))
      assert Koma.Queue.depth("toy", 1_000).paused
      assert Koma.Queue.pause("toy", false) == :ok
      ask_event(socket, page, "confirm", %{})
      refute Koma.Queue.depth("toy", 1_000).paused
    end

    test "what is hostile in a job is shown as text", %{port: port} do
      attack = ~s(<script>alert("x"\)</script>)
      {:error, _refused} = Koma.submit(%{"task" => attack}, %Caller{})
      page = open(port, "/dashboard?job=" <> URI.encode_www_form(attack))
      refute page.html =~ attack
      assert page.html =~ "&lt;script&gt;"
    end

    test "a join without the page's tokens is told to load the page anew", %{port: port} do
      page = open(port)
      other = open(port)

      for {session, csrf, topic} <- [
            {"forged", page.csrf, page.topic},
            {page.session, "forged", page.topic},
            {page.session, page.csrf, "lv:phx-other"},
            {other.session, page.csrf, page.topic},
            {nil, nil, page.topic}
          ] do
        socket = live(port, page)

        payload = %{
          "url" => "/dashboard",
          "session" => session,
          "params" => %{"_csrf_token" => csrf}
        }

        push(socket, ["1", "1", topic, "phx_join", payload])
        assert [_, "1", ^topic, "phx_reply", reply] = next(socket)
        assert reply == %{"status" => "error", "response" => %{"reason" => "stale"}}
      end
    end

    test "a page of another origin gets no socket", %{port: port} do
      page = open(port)
      headers = [{"cookie", page.cookie}, {"origin", "http://evil.example"}]

      assert_raise RuntimeError, ~r/403/, fn ->
        connect(port, "vsn=2.0.0", headers, "/live/websocket")
      end
    end

    test "events of any shape are answered, never with an error", %{port: port} do
      page = open(port)
      {socket, _rendered} = join(port, page)

      for payload <- [
            %{},
            [],
            7,
            nil,
            %{"event" => 7},
            event("click", "ask", 7),
            event("form", "filter", "%%%"),
            event("click", "ask", %{"do" => 1, "on" => []}),
            event("form", "confirm", "")
          ] do
        assert %{"status" => "ok"} = answered(socket, page.topic, "event", payload)
      end

      for {event, payload} <- [
            {"live_patch", %{"url" => "::"}},
            {"cids_destroyed", %{"cids" => [1]}},
            {"x", 1}
          ] do
        assert %{"status" => "ok"} = answered(socket, page.topic, event, payload)
      end
    end

    test "a browser that has not seen the last change gets no other; then the latest", %{
      port: port
    } do
      page = open(port)
      {socket, _rendered} = join(port, page)
      click(socket, page, "ask", %{"do" => "pause", "on" => "toy"})
      read_until(socket, &match?([_, _, _, "diff", _], &1))

      for what <- ["drain", "restart", "unload"],
          do: ask_event(socket, page, "ask", %{"do" => what, "on" => "toy-1"})

      push(socket, ["1", "4", page.topic, "seen", %{}])
      assert [_, _, _, "diff", diff] = next(socket)
      assert Enum.any?(diff, fn {_, html} -> is_binary(html) and html =~ "Unload toy-1?" end)
    end

    test "the sampler works only while somebody looks", %{port: port} do
      assert :sys.get_state(Sampler).timer == nil
      page = open(port)
      assert :sys.get_state(Sampler).timer == nil
      {{gun, _stream}, _rendered} = join(port, page)
      assert :sys.get_state(Sampler).timer != nil
      :gun.close(gun)

      eventually(fn ->
        match?(%{timer: nil, shown: shown} when shown == %{}, :sys.get_state(Sampler))
      end)
    end

    test "dashboards go on when the sampler or the core dies", %{port: port} do
      page = open(port)
      {socket, _rendered} = join(port, page)
      Process.exit(GenServer.whereis(Sampler), :kill)
      job = submit!(%{"steps" => 1})
      diffs(socket, &Enum.any?(&1, fn {_, html} -> html =~ job["id"] end))
      Process.exit(GenServer.whereis(Koma.Store.Disk), :kill)
      request = %{"task" => "toy.run", "params" => %{"steps" => 1}}
      eventually(fn -> match?({:ok, _job}, Koma.submit(request, %Caller{})) end)
      [job | _] = Koma.jobs(%Caller{}, %{})
      diffs(socket, &Enum.any?(&1, fn {_, html} -> html =~ job["id"] end))
    end

    test "dashboards that show the same share what is rendered", %{port: port} do
      for _ <- 1..3, do: join(port, open(port))
      assert map_size(:sys.get_state(Sampler).watchers) == 3
      assert map_size(:sys.get_state(Sampler).shown) == 9
    end
  end

  describe "with keys" do
    setup %{dir: dir} do
      {:ok, port: start_server(dir, keys: "#{key("boss", "roles=operator")};#{key("user", "")}")}
    end

    test "nobody sees the dashboard who has not shown the key of an operator", %{port: port} do
      assert {303, %{"location" => "/dashboard/login"}, ""} = http(port, "GET", "/dashboard")
      assert {200, headers, html} = http(port, "GET", "/dashboard/login")
      assert {401, _, refused} = login(port, headers, html, "wrong")
      assert refused =~ "not known"
      assert {403, _, _} = login(port, headers, html, secret("user"))

      assert {303, %{"location" => "/dashboard"} = headers, ""} =
               login(port, headers, html, secret("boss"))

      page = open(port, "/dashboard", [{"cookie", cookie(headers)}])
      {_socket, rendered} = join(port, page)
      assert is_map(rendered)
    end

    test "an operator sees the history of anybody's job, but not what it says", %{port: _port} do
      {:ok, user} = Koma.Access.authenticate(secret("user"))
      request = %{"task" => "toy.run", "params" => %{"steps" => 3, "tokens" => true}}
      {:ok, job} = Koma.submit(request, user)
      eventually(fn -> match?({:ok, %{state: "completed"}}, Koma.Store.Jobs.fetch(job["id"])) end)

      tokens =
        for %{type: "token", data: data} <- Koma.Store.Jobs.events(job["id"], 0), do: data["text"]

      {:ok, boss} = Koma.Access.authenticate(secret("boss"))

      part = fn key ->
        Koma.Dashboard.Parts.Job.html(Koma.Dashboard.Parts.Job.read({job["id"], key}))
      end

      {:safe, others} = part.(boss.key)
      {:safe, own} = part.(user.key)
      assert length(tokens) == 3

      for token <- tokens do
        assert own =~ token
        refute others =~ token
      end

      assert others =~ "characters)"
    end

    test "a login form that another page sent is refused", %{port: port} do
      {200, headers, _html} = http(port, "GET", "/dashboard/login")
      form = URI.encode_query(%{"key" => secret("boss"), "_csrf_token" => "forged"})
      type = {"content-type", "application/x-www-form-urlencoded"}

      assert {403, _, _} =
               http(port, "POST", "/dashboard/login", [type, {"cookie", cookie(headers)}], form)
    end

    test "a session whose key is gone is told to log in", %{port: port} do
      {:ok, caller} = Koma.Access.authenticate(secret("boss"))
      session = Session.login(%{caller | credential: "of a key that was replaced"})
      cookie = Token.sign(:cookie, %{"id" => session.id, "caller" => stored(session.caller)})

      assert {303, _, _} =
               http(port, "GET", "/dashboard", [{"cookie", "koma_session=" <> cookie}])

      page = %{cookie: "koma_session=" <> cookie, topic: "lv:phx-1"}
      socket = live(port, page)
      params = %{"_csrf_token" => Session.csrf(session)}
      payload = %{"url" => "/", "session" => Session.page(session, "phx-1"), "params" => params}
      push(socket, ["1", "1", "lv:phx-1", "phx_join", payload])
      assert [_, _, _, _, %{"response" => response}] = next(socket)
      assert response == %{"redirect" => %{"to" => "/dashboard/login"}}
    end
  end

  test "a page goes on after a restart of the server, without a click", %{dir: dir} do
    port = start_server(dir)
    page = open(port)
    join(port, page)
    {_socket, rendered} = join(restart_server(dir), page)

    assert Enum.any?(rendered, fn {_, html} ->
             is_binary(html) and html =~ ~s(data-node="toy-1")
           end)
  end

  test "whoever has logged in stays so over a restart of the server; a key that was replaced meanwhile is out",
       %{dir: dir} do
    keys = key("boss", "roles=operator")
    port = start_server(dir, keys: keys)
    {200, headers, html} = http(port, "GET", "/dashboard/login")
    {303, headers, ""} = login(port, headers, html, secret("boss"))
    page = open(port, "/dashboard", [{"cookie", cookie(headers)}])
    join(port, page)

    port = restart_server(dir, keys: keys)
    join(port, page)
    assert {200, _, _} = http(port, "GET", "/dashboard", [{"cookie", page.cookie}])

    port = restart_server(dir, keys: key("other", "roles=operator"))
    assert {303, _, _} = http(port, "GET", "/dashboard", [{"cookie", page.cookie}])
  end

  test "whoever logs out is out: the cookie lets nobody in any more, also after a restart, and live pages close",
       %{dir: dir} do
    keys = key("boss", "roles=operator")
    port = start_server(dir, keys: keys)
    [page, other] = for _ <- 1..2, do: logged_in(port)
    {socket, _tree} = join(port, page)
    {others, _tree} = join(port, other)
    type = {"content-type", "application/x-www-form-urlencoded"}
    form = URI.encode_query(%{"_csrf_token" => page.csrf})

    assert {303, _, _} =
             http(port, "POST", "/dashboard/logout", [type, {"cookie", page.cookie}], form)

    assert {:close, 1008, "unauthorized"} =
             socket |> read_until(&match?({:close, _, _}, &1)) |> List.last()

    assert %{"status" => "ok"} = answered(others, other.topic, "seen", %{})

    for port <- [fn -> port end, fn -> restart_server(dir, keys: keys) end] do
      port = port.()
      assert {303, headers, _} = http(port, "GET", "/dashboard", [{"cookie", page.cookie}])
      assert headers["location"] == "/dashboard/login"
      socket = connect(port, "vsn=2.0.0", [{"cookie", page.cookie}], "/live/websocket")
      push(socket, ["1", "1", page.topic, "phx_join", payload(page)])
      assert [_, _, _, "phx_reply", %{"status" => "error"}] = next(socket)
      assert {200, _, _} = http(port, "GET", "/dashboard", [{"cookie", other.cookie}])
    end
  end

  defp logged_in(port) do
    {200, headers, html} = http(port, "GET", "/dashboard/login")
    {303, headers, ""} = login(port, headers, html, secret("boss"))
    open(port, "/dashboard", [{"cookie", cookie(headers)}])
  end

  # Nothing is left in the memory of the server.
  defp restart_server(dir, overrides \\ []) do
    :ok = stop_edge()
    :ok = stop_core()
    :ok = stop_supervised!(Koma.Access)
    for {{Secret, _} = key, _} <- :persistent_term.get(), do: :persistent_term.erase(key)
    start_supervised!({Koma.Access, CoreCase.options(dir, overrides)})
    start_server(dir, overrides)
  end

  # What a browser does.

  defp open(port, path \\ "/dashboard", headers \\ []) do
    {200, headers, html} = http(port, "GET", path, headers)
    [_, csrf] = Regex.run(~r/name="csrf-token" content="([^"]+)"/, html)

    [_, id, session] =
      Regex.run(~r/<div id="([^"]+)" data-phx-main data-phx-session="([^"]+)"/, html)

    %{
      html: html,
      headers: headers,
      csrf: csrf,
      session: session,
      topic: "lv:" <> id,
      cookie: cookie(headers),
      url: "http://127.0.0.1:#{port}#{path}"
    }
  end

  defp cookie(headers), do: headers["set-cookie"] |> String.split(";") |> hd()

  defp live(port, page) do
    connect(port, "vsn=2.0.0", [{"cookie", page.cookie}], "/live/websocket")
  end

  defp payload(page) do
    params = %{"_csrf_token" => page.csrf, "_mounts" => 0}
    %{"url" => page.url, "session" => page.session, "static" => nil, "params" => params}
  end

  defp join(port, page) do
    socket = live(port, page)
    topic = page.topic
    push(socket, ["1", "1", topic, "phx_join", payload(page)])

    assert ["1", "1", ^topic, "phx_reply", %{"status" => "ok", "response" => response}] =
             next(socket)

    assert response["liveview_version"] == "1.2.12"
    {socket, response["rendered"]}
  end

  # All diffs up to and with the first that fits, the latest first; each is seen.
  defp diffs(socket, fits?, seen \\ []) do
    case next(socket) do
      [_, _, topic, "diff", diff] ->
        push(socket, ["1", "5", topic, "seen", %{}])
        {[["seen", %{}]], panels} = Map.pop!(diff, "e")
        if fits?.(panels), do: [panels | seen], else: diffs(socket, fits?, [panels | seen])

      _other ->
        diffs(socket, fits?, seen)
    end
  end

  # The frames up to and with the first that fits; diffs among them are seen.
  defp read_seen(socket, fits?) do
    frames = read_until(socket, fits?)
    for [_, _, topic, "diff", _] <- frames, do: push(socket, ["1", "5", topic, "seen", %{}])
    frames
  end

  defp event(type, name, value), do: %{"type" => type, "event" => name, "value" => value}

  defp click(socket, page, name, value) do
    push(socket, ["1", "7", page.topic, "event", event("click", name, value)])
  end

  defp ask_event(socket, page, name, value) do
    push(socket, ["1", "8", page.topic, "event", event("click", name, value)])
    frames = read_seen(socket, &match?([_, "8", _, "phx_reply", _], &1))
    frames |> List.last() |> List.last()
  end

  defp answered(socket, topic, event, payload) do
    push(socket, ["1", "6", topic, event, payload])
    frames = read_seen(socket, &match?([_, "6", _, "phx_reply", _], &1))
    frames |> List.last() |> List.last()
  end

  defp login(port, headers, html, key) do
    [_, csrf] = Regex.run(~r/name="_csrf_token" value="([^"]+)"/, html)
    type = {"content-type", "application/x-www-form-urlencoded"}
    form = URI.encode_query(%{"key" => key, "_csrf_token" => csrf})
    http(port, "POST", "/dashboard/login", [type, {"cookie", cookie(headers)}], form)
  end

  defp stored(caller) do
    %{
      "key" => caller.key,
      "roles" => caller.roles,
      "credential" => Base.url_encode64(caller.credential)
    }
  end
end
