defmodule Koma.SocketTest do
  @moduledoc "WebSocket connections and their topics, over real sockets."
  use Koma.EdgeCase

  alias Koma.Channel.Limits
  alias Koma.Socket.Connection

  setup %{dir: dir}, do: {:ok, port: start_server(dir)}

  describe "the handshake" do
    test "any protocol version but 2.x is refused with 403", %{port: port} do
      for query <- ["", "vsn=1.0.0", "vsn=3.0.0", "vsn=", "vsn", "vsn=2"] do
        assert_raise RuntimeError, "refused: 403", fn -> connect(port, query) end
      end

      for query <- ["vsn=2.0.0", "api_key=k&nested%5Ba%5D=1&vsn=2.1.9"], do: connect(port, query)
    end

    test "pages of other origins are refused, our own and other programs are not", %{port: port} do
      own = "http://127.0.0.1:#{port}"
      connect(port, "vsn=2.0.0", [{"origin", own}])
      connect(port)

      for origin <- ["http://evil.example", "null", "http://127.0.0.1:1", own <> ".evil"] do
        assert_raise RuntimeError, "refused: 403", fn ->
          connect(port, "vsn=2.0.0", [{"origin", origin}])
        end
      end
    end

    test "a request that is no WebSocket is answered", %{port: port} do
      assert {426, _headers, _body} = http(port, "GET", "/socket/websocket?vsn=2.0.0")
    end
  end

  describe "frames that cannot be read" do
    setup %{port: port} do
      socket = connect(port)
      join!(socket, "jobs")
      {:ok, socket: socket}
    end

    test "are answered with a code on the topic phoenix, and the topics go on", %{socket: socket} do
      for {frame, code} <- [
            {{:text, "{"}, "invalid_json"},
            {{:text, ""}, "invalid_json"},
            {{:text, "{}"}, "invalid_request"},
            {{:binary, <<9, 9>>}, "invalid_request"},
            {{:binary, ""}, "invalid_request"},
            {{:text, ~s(["1","2",3,"e",{}])}, "wrong_type"}
          ] do
        send_frame(socket, frame)
        assert [_, _, "phoenix", "phx_reply", %{"status" => "error"} = reply] = next(socket)
        assert %{"code" => ^code, "message" => text, "reason" => text} = reply["response"]
      end

      assert %{"status" => "ok"} = ask(socket, "jobs", "submit", %{"task" => "toy.run"})
    end

    test "of pages end in 1009 beyond 64 KiB, before what they announce is there", %{port: port} do
      tcp = open_raw(port, "", "/live/websocket")
      # A masked text frame of 1 MiB of which nothing but the head is sent.
      :ok = :gen_tcp.send(tcp, <<0x81, 0xFF, 1_048_576::64, 0::32>>)
      assert {:ok, <<0x88, _length, 1009::16, _reason::binary>>} = :gen_tcp.recv(tcp, 0, 5_000)
    end

    test "too large ones are refused with value and bound; far too large ones end in 1009", %{
      socket: socket
    } do
      bound = Limits.max_frame_bytes()
      send_frame(socket, {:text, String.duplicate("x", bound + 1)})
      assert [nil, nil, "phoenix", "phx_reply", %{"response" => response}] = next(socket)
      assert %{"code" => "too_large", "field" => "frame", "bound" => ^bound} = response
      assert response["value"] == bound + 1

      # At the bound it is read, and is no JSON.
      send_frame(socket, {:text, String.duplicate("x", bound)})
      assert [_, _, _, _, %{"response" => %{"code" => "invalid_json"}}] = next(socket)

      send_frame(socket, {:text, String.duplicate("x", 2 * bound + 1)})
      assert {:close, 1009, _reason} = next(socket)
    end
  end

  describe "topics" do
    test "every message to a topic carries its join_ref", %{port: port} do
      socket = connect(port)
      job = submit!(%{"steps" => 3, "preview_bytes" => 10, "tokens" => true})
      join!(socket, "job:" <> job["id"], %{"after" => 0})
      topic = "job:" <> job["id"]
      frames = read_until(socket, &match?([_, _, _, "completed", _], &1))
      assert length(frames) > 5
      for frame <- frames, do: assert(["j" <> ^topic, nil, ^topic, _event, %{}] = frame)
    end

    test "a join with numbers for refs gets them back", %{port: port} do
      socket = connect(port)
      push(socket, [5, 5, "jobs", "phx_join", %{}])
      assert [5, 5, "jobs", "phx_reply", %{"status" => "ok"}] = next(socket)
    end

    test "a push to a topic that is not joined is refused, a leave of it is ok", %{port: port} do
      socket = connect(port)
      push(socket, ["1", "2", "jobs", "submit", %{}])

      assert ["1", "2", "jobs", "phx_reply", %{"status" => "error", "response" => error}] =
               next(socket)

      assert %{"code" => "unknown_topic", "field" => "topic", "value" => "jobs"} = error
      push(socket, ["1", "3", "jobs", "phx_leave", %{}])
      assert ["1", "3", "jobs", "phx_reply", %{"status" => "ok"}] = next(socket)
    end

    test "messages of an earlier join are dropped", %{port: port} do
      socket = connect(port)
      join!(socket, "jobs")
      push(socket, ["old", "2", "jobs", "submit", %{}])
      push(socket, ["old", "3", "jobs", "phx_leave", %{}])
      assert ["old", "3", "jobs", "phx_reply", %{"status" => "ok"}] = next(socket)
      assert %{"status" => "error"} = ask(socket, "jobs", "submit", %{})
    end

    test "joined again, the earlier join is closed with its own ref", %{port: port} do
      socket = connect(port)
      join!(socket, "jobs")
      [first] = channels()
      ref = Process.monitor(first)
      push(socket, ["2", "2", "jobs", "phx_join", %{}])
      assert ["jjobs", "jjobs", "jobs", "phx_close", %{}] = next(socket)
      assert ["2", "2", "jobs", "phx_reply", %{"status" => "ok"}] = next(socket)
      assert_receive {:DOWN, ^ref, :process, ^first, :shutdown}
    end

    test "more topics than the limit are refused; a rejoin of one is not", %{port: port} do
      socket = connect(port)
      {:ok, job} = Koma.submit(%{"task" => "toy.run"}, %Caller{})
      await_end(job["id"])
      # The store knows one job; unknown ones are refused, so the limit is filled by hand.
      [pid] = sockets()

      :sys.replace_state(pid, fn {state, connection, parser} ->
        topic = %Connection.Topic{channel: self(), monitor: make_ref(), join_ref: "1"}
        topics = Map.new(1..Limits.max_topics(), &{"t#{&1}", topic})
        {state, %Connection{connection | topics: topics}, parser}
      end)

      push(socket, ["1", "1", "job:" <> job["id"], "phx_join", %{}])
      assert [_, _, _, "phx_reply", %{"status" => "error", "response" => error}] = next(socket)
      assert %{"code" => "out_of_bounds", "bound" => 1000} = error
    end

    test "a crash in one topic is phx_error there, and the other topics go on", %{port: port} do
      socket = connect(port)
      join!(socket, "jobs")
      [lobby] = channels()
      job = submit!(%{"steps" => 2000, "step_ms" => 5})
      topic = "job:" <> job["id"]
      join!(socket, topic)
      [channel] = channels() -- [lobby]
      Process.exit(channel, :kill)

      crash = socket |> read_until(&match?([_, _, _, "phx_error", _], &1)) |> List.last()

      assert crash == [
               "j" <> topic,
               "j" <> topic,
               topic,
               "phx_error",
               %{"reason" => "channel_crash"}
             ]

      assert %{"status" => "ok"} = ask(socket, "jobs", "cancel", %{"id" => job["id"]})
      assert %{"job" => %{"state" => "cancelled"}} = join!(socket, topic)
    end

    test "the death of a job's process is not seen by who follows it", %{port: port} do
      socket = connect(port)
      job = submit!(%{"steps" => 60, "step_ms" => 10})
      join!(socket, "job:" <> job["id"])
      read_until(socket, &match?([_, _, _, "progress", %{"step" => 5}], &1))
      before = Koma.Job.Processes.whereis(job["id"])
      Process.exit(before, :kill)
      frames = read_until(socket, &match?([_, _, _, "completed", _], &1))
      assert Enum.any?(frames, &match?([_, _, _, "retrying", _], &1))
      {:ok, _job, events, nil} = Koma.subscribe(job["id"], 0, %Caller{})
      assert Enum.map(events, & &1.seq) == Enum.to_list(1..length(events))
      seen = for [_, _, _, _, %{"seq" => seq}] <- frames, do: seq
      assert seen == Enum.to_list(hd(seen)..length(events))
    end

    test "a topic ends with its socket", %{port: port} do
      socket = connect(port)
      join!(socket, "jobs")
      [channel] = channels()
      ref = Process.monitor(channel)
      {gun, _stream} = socket
      :gun.close(gun)
      assert_receive {:DOWN, ^ref, :process, ^channel, :normal}, 5_000
      assert eventually(fn -> sockets() == [] end)
    end
  end

  describe "time" do
    test "a client that says nothing is closed with 1001, one with heartbeats is not", %{
      port: port
    } do
      socket = connect(port)
      join!(socket, "jobs")
      [pid] = sockets()

      send(pid, :koma_idle_check)
      push(socket, [nil, "7", "phoenix", "heartbeat", %{}])
      assert [nil, "7", "phoenix", "phx_reply", %{"status" => "ok"}] = next(socket)
      send(pid, :koma_idle_check)
      send(pid, :koma_idle_check)
      send(pid, :koma_idle_check)
      assert {:close, 1001, "idle"} = next(socket)
    end

    test "the interval of the check is at least the minute that clients count on" do
      assert Connection.idle_ms() >= 60_000
    end
  end

  describe "cost" do
    test "an idle joined socket costs less than 15 kB", %{port: port} do
      job = submit!(%{"steps" => 1})
      await_end(job["id"])

      for _n <- 1..50 do
        socket = connect(port)
        join!(socket, "job:" <> job["id"])
        read_until(socket, &match?([_, _, _, "completed", _], &1))
        push(socket, [nil, "1", "phoenix", "heartbeat", %{}])
        next(socket)
      end

      hibernating? = fn pid ->
        Process.info(pid, :current_function) == {:current_function, {:erlang, :hibernate, 3}}
      end

      assert eventually(fn -> Enum.all?(sockets() ++ channels(), hibernating?) end)
      assert length(sockets()) == 50

      bytes = for pid <- sockets() ++ channels(), do: pid |> Process.info(:memory) |> elem(1)
      assert Enum.sum(bytes) / 50 < 10_000
    end

    test "a client that does not read costs bounded memory and misses no event", %{port: port} do
      job =
        submit!(%{"steps" => 150, "step_ms" => 10, "preview_bytes" => 1_000_000, "tokens" => true})

      socket = {gun, _stream} = connect(port)
      join!(socket, "job:" <> job["id"], %{"previews" => "binary"})
      :sys.suspend(gun)
      before = :erlang.memory(:binary)
      # Not by following it: the previews would wait here, too.
      eventually(fn ->
        match?({:ok, %{"state" => "completed"}}, Koma.job(job["id"], %Caller{}))
      end)

      [channel] = channels()
      [connection] = sockets()

      # What is under way, what waits, and what the kernel took.
      assert :erlang.memory(:binary) - before < 30_000_000

      for pid <- [channel, connection] do
        assert {:message_queue_len, length} = Process.info(pid, :message_queue_len)
        assert length <= Koma.Channel.Outbox.window() + 1
      end

      :sys.resume(gun)
      frames = read_until(socket, &match?([_, _, _, "completed", _], &1))
      events = for [_, _, _, _, %{"seq" => seq}] <- frames, do: seq
      assert events == Enum.to_list(1..List.last(events))
      assert length(for {:binary, _} = preview <- frames, do: preview) < 100
    end

    test "a client that sends faster than it is answered is slowed down, and all is answered", %{
      port: port
    } do
      socket = connect(port)
      join!(socket, "jobs")
      for n <- 1..2_000, do: push(socket, ["jjobs", "#{n}", "jobs", "cancel", %{"id" => "none"}])
      [pid] = sockets()
      replies = for _n <- 1..2_000, do: next(socket)
      assert Enum.map(replies, &Enum.at(&1, 1)) == Enum.map(1..2_000, &"#{&1}")
      {_cowboy, connection, _parser} = :sys.get_state(pid)
      assert %{waiting: 0, waiting_bytes: 0, reading: true} = connection
    end
  end
end
