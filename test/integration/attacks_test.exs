defmodule Koma.AttacksTest do
  @moduledoc "What somebody tries who means harm: over real sockets, byte by byte."
  use Koma.EdgeCase

  import ExUnit.CaptureLog

  alias Koma.Access
  alias Koma.Access.Usage
  alias Koma.Socket.Connection

  # Long enough for whatever the machine does between two bytes, short for a test.
  @head_ms 1_500

  defp start(dir, options \\ []) do
    keys = key("a") <> key("boss", "roles=operator")
    start_server(dir, [keys: keys, header_timeout_ms: @head_ms] ++ options)
  end

  defp as(id), do: {"x-api-key", secret(id)}

  defp connect_tcp(port) do
    {:ok, tcp} = :gen_tcp.connect('127.0.0.1', port, [:binary, active: false, nodelay: true])
    tcp
  end

  defp raw(port, bytes) do
    tcp = connect_tcp(port)
    _closed_early = :gen_tcp.send(tcp, bytes)
    read_all(tcp, "")
  end

  defp read_all(tcp, read) do
    case :gen_tcp.recv(tcp, 0, 20_000) do
      {:ok, more} -> read_all(tcp, read <> more)
      {:error, _closed} -> read
    end
  end

  # Sends byte after byte until the other side has had enough; returns what it said.
  defp dribble(tcp, bytes, pause_ms) do
    Enum.reduce_while(Stream.cycle(bytes), 0, fn byte, sent ->
      case {:gen_tcp.send(tcp, byte), :gen_tcp.recv(tcp, 0, pause_ms)} do
        {:ok, {:error, :timeout}} -> {:cont, sent + 1}
        {_sent, {:ok, answer}} -> {:halt, {answer <> read_all(tcp, ""), sent}}
        {_sent, {:error, :closed}} -> {:halt, {"", sent}}
      end
    end)
  end

  describe "paths" do
    test "that climb out of their folder find nothing", %{dir: dir} do
      port = start(dir)
      File.write!(Path.join(dir, "secret.txt"), "root:x:0:0")

      for path <- [
            "/static/../../../../../../etc/passwd",
            "/static/..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
            "/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
            "/static/....//....//etc/passwd",
            "/static/..%5c..%5cetc%5cpasswd",
            "/static//etc/passwd",
            "/static/%00/etc/passwd",
            "/static/icon.svg%00.txt",
            "/static/../mix.exs",
            "/v1/artifacts/../../../../etc/passwd",
            "/v1/artifacts/..%2f..%2fsecret.txt",
            "/v1/artifacts/%2e%2e%2fsecret.txt",
            "/v1/artifacts/" <> String.duplicate("0", 62) <> "%2f.",
            "/v1/artifacts/" <> String.duplicate("A", 64),
            "/v1/artifacts/" <> String.duplicate("0", 64) <> "%0a",
            "/v1/artifacts/" <> String.duplicate("0", 64) <> ".keys",
            "/v1/artifacts/" <> String.duplicate("0", 64) <> ".type",
            "/v1/pipelines/..%2f..%2fsecret.txt",
            "/v1/jobs/..%2fjournal",
            "//etc/passwd",
            "/../../../etc/passwd"
          ] do
        head = "GET #{path} HTTP/1.1\r\nhost: localhost\r\nx-api-key: #{secret("a")}\r\n"
        answer = raw(port, head <> "connection: close\r\n\r\n")
        assert answer =~ ~r"\AHTTP/1.1 4\d\d ", path
        refute answer =~ "root:"
        refute answer =~ "defmodule"
      end

      assert {200, _, _} = http(port, "GET", "/static/icon.svg")
    end

    test "as ids in messages find nothing either", %{dir: dir} do
      port = start(dir)
      socket = connect(port, "vsn=2.0.0", [as("a")])
      join!(socket, "jobs")

      for id <- [
            "../../secret",
            "..",
            "/etc/passwd",
            "pl_\0",
            <<0xC3, 0x28>>,
            String.duplicate("a", 10_000)
          ] do
        for event <- ["cancel", "cancel_pipeline"] do
          if String.valid?(id) do
            assert %{"response" => %{"code" => "not_found"}} =
                     ask(socket, "jobs", event, %{"id" => id})
          end
        end
      end
    end
  end

  describe "headers" do
    test "of an answer hold nothing that a request put there", %{dir: dir} do
      port = start(dir)
      injected = "x-injected: yes"

      for {request, statuses} <- [
            {"POST /v1/artifacts HTTP/1.1\r\ncontent-type: text/html\r\n#{injected}\r\n",
             201..201},
            {"POST /v1/artifacts HTTP/1.1\r\ncontent-type: text/plain; name=\"a\\\r\\\n#{injected}\"\r\n",
             400..499},
            {"POST /v1/artifacts HTTP/1.1\r\ncontent-type: text/pla\rin\r\n", 400..499},
            {"POST /v1/artifacts HTTP/1.1\r\ncontent-type: text/a\0b\r\n", 400..499},
            {"POST /v1/artifacts HTTP/1.1\r\ncontent-type: text\r\n", 400..499},
            {"POST /v1/artifacts HTTP/1.1\r\ncontent-type: text/plain\r\nx-content-sha256: a%0d%0a#{injected}\r\n",
             400..400},
            {"POST /v1/artifacts?name=a%0d%0ax-injected:%20yes HTTP/1.1\r\ncontent-type: text/css\r\n",
             200..201},
            {"GET /v1/jobs?state=a%0d%0ax-injected:%20yes HTTP/1.1\r\n", 400..400},
            {"GET /v1/jobs/a%0d%0ax-injected:%20yes HTTP/1.1\r\n", 404..404},
            {"GET /a%0d%0ax-injected:%20yes HTTP/1.1\r\n", 404..404},
            {"DELETE /v1/jobs HTTP/1.1\r\norigin: http://localhost\r\n", 405..405}
          ] do
        common =
          "host: localhost\r\nx-api-key: #{secret("a")}\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx"

        answer = raw(port, request <> common)
        [head | _body] = String.split(answer, "\r\n\r\n", parts: 2)
        [_all, status] = Regex.run(~r"\AHTTP/1.1 (\d\d\d) ", head)
        assert String.to_integer(status) in statuses, request
        refute head =~ "injected"
      end
    end

    test "of a stored file come from its id and type: a page is never run", %{dir: dir} do
      port = start(dir)
      html = "<script>alert(1)</script>"

      for type <- ["text/html", "image/svg+xml", "application/xhtml+xml", "text/javascript"] do
        {_status, _, body} =
          http(port, "POST", "/v1/artifacts", [{"content-type", type}, as("a")], html <> type)

        {:ok, %{"id" => id}} = Koma.JSON.decode(body)
        assert {200, headers, _} = http(port, "GET", "/v1/artifacts/" <> id, [as("a")])

        assert headers["content-disposition"] ==
                 ~s(attachment; filename="koma-#{String.slice(id, 0, 12)}.bin")

        assert headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert headers["x-content-type-options"] == "nosniff"
      end
    end

    test "that are huge or countless are refused, and the server goes on", %{dir: dir} do
      port = start(dir)
      long = String.duplicate("x", 100_000)
      many = for n <- 1..1_000, do: "x-#{n}: y\r\n"
      # One name, however often it comes, is one header.
      same = List.duplicate("cookie: #{String.duplicate("x", 4_000)}\r\n", 20)

      for head <- [
            "GET /#{long} HTTP/1.1\r\nhost: localhost\r\n",
            "GET / HTTP/1.1\r\nhost: localhost\r\nx-api-key: #{long}\r\n",
            "GET / HTTP/1.1\r\nhost: localhost\r\n#{long}: y\r\n",
            ["GET / HTTP/1.1\r\nhost: localhost\r\n", many],
            ["GET / HTTP/1.1\r\nhost: localhost\r\n", same],
            "#{long} / HTTP/1.1\r\n"
          ] do
        assert raw(port, [head, "\r\n"]) =~ ~r"\A(HTTP/1.1 4\d\d |\z)"
      end

      assert {200, _, _} = http(port, "GET", "/health/live")
    end
  end

  describe "a request of which two readers may believe different things" do
    @chunks "3\r\nabc\r\n0\r\n\r\n"

    for {name, headers, body} <- [
          {"a length and chunks", "content-length: 15\r\ntransfer-encoding: chunked", @chunks},
          {"two lengths", "content-length: 3\r\ncontent-length: 4", "abcd"},
          {"the same length twice", "content-length: 3\r\ncontent-length: 3", "abc"},
          {"a list of lengths", "content-length: 3, 3", "abc"},
          {"a length with a sign", "content-length: +3", "abc"},
          {"a negative length", "content-length: -3", "abc"},
          {"a length that is none", "content-length: 0x3", "abc"},
          {"a coding that nobody has", "transfer-encoding: xchunked", @chunks},
          {"chunks within another coding", "transfer-encoding: gzip, chunked", @chunks},
          {"chunks twice", "transfer-encoding: chunked\r\ntransfer-encoding: chunked", @chunks},
          {"a space before the colon", "transfer-encoding : chunked", @chunks},
          {"a folded header", "transfer-encoding:\r\n chunked", @chunks},
          {"a line break in a header", "x-a: b\ntransfer-encoding: chunked", @chunks},
          {"half a line break in a header", "x-a: b\rtransfer-encoding: chunked", @chunks},
          {"a zero byte in a header", "x-a: b\0", ""},
          {"a size that is no number", "transfer-encoding: chunked", "zz\r\nabc\r\n0\r\n\r\n"},
          {"a size with a sign", "transfer-encoding: chunked", "-3\r\nabc\r\n0\r\n\r\n"},
          {"a size with a prefix", "transfer-encoding: chunked", "0x3\r\nabc\r\n0\r\n\r\n"},
          {"a size beyond all bounds", "transfer-encoding: chunked", "fffffffffffff\r\nabc\r\n"},
          {"a size without end", "transfer-encoding: chunked", String.duplicate("0", 300)},
          {"a size and half a line break", "transfer-encoding: chunked", "3\nabc\n0\n\n"},
          {"a chunk longer than its size", "transfer-encoding: chunked",
           "3\r\nabcd\r\n0\r\n\r\n"},
          {"headers behind the chunks", "transfer-encoding: chunked", "0\r\nx-a: b\r\n\r\n"}
        ] do
      test "is answered 400 and nothing after it is read: #{name}", %{dir: dir} do
        hidden = "GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n"
        answer = raw(start(dir), post("1.1", unquote(headers)) <> unquote(body) <> hidden)
        assert answer =~ ~r"\AHTTP/1.1 400 "
        assert length(String.split(answer, "HTTP/1.1 ")) == 2
      end
    end

    test "is answered 400 where HTTP/1.0 has chunks", %{dir: dir} do
      head = post("1.0", "transfer-encoding: chunked")
      assert raw(start(dir), head <> @chunks) =~ ~r"\AHTTP/1.1 400 "
    end

    test "is another one than chunks with notes, however they are cut", %{dir: dir} do
      tcp = connect_tcp(start(dir))
      :ok = :gen_tcp.send(tcp, post("1.1", "transfer-encoding: chunked\r\nconnection: close"))

      for byte <- String.graphemes("1;note=x\r\na\r\n0A \r\n0123456789\r\n0;last\r\n\r\n"),
          do: :ok = :gen_tcp.send(tcp, byte)

      answer = read_all(tcp, "")
      assert answer =~ ~r"\AHTTP/1.1 201 "
      assert answer =~ Base.encode16(:crypto.hash(:sha256, "a0123456789"), case: :lower)
    end

    defp post(version, headers) do
      "POST /v1/artifacts HTTP/#{version}\r\nhost: localhost\r\nx-api-key: #{secret("a")}\r\n" <>
        "content-type: text/plain\r\n#{headers}\r\n\r\n"
    end
  end

  test "of many requests that are sent at once the first are answered, and the rest is told to come again",
       %{dir: dir} do
    request = "GET /v1/jobs HTTP/1.1\r\nhost: localhost\r\nx-api-key: #{secret("a")}\r\n\r\n"
    answers = dir |> start() |> raw(String.duplicate(request, 1_000)) |> String.split("HTTP/1.1 ")
    assert ["" | [_ | _] = answers] = answers
    assert length(answers) < 1_000
    assert Enum.all?(answers, &String.starts_with?(&1, "200 "))
    assert List.last(answers) =~ "connection: close"
  end

  test "a socket without a key joins a few topics and no more", %{dir: dir} do
    _port = start(dir)

    # Their answers are not read, so that none of them ends.
    join = fn n, connection ->
      Connection.frame(connection, :text, ~s(["#{n}","#{n}","job:#{n}","phx_join",{}]))
    end

    {answers, connection} = Enum.map_reduce(1..8, Connection.new(%Caller{}), join)
    assert Enum.all?(answers, &(&1 == []))
    assert {[{:text, refusal}], _connection} = join.(9, connection)
    assert IO.iodata_to_binary(refusal) =~ ~s("code":"out_of_bounds")
    assert IO.iodata_to_binary(refusal) =~ ~s("bound":8)
  end

  describe "HTTP/2 without TLS" do
    test "is refused where a client begins with it: nothing of its frames is kept", %{dir: dir} do
      tcp = connect_tcp(start(dir))
      # RFC 9113: the preface, and SETTINGS that ask for nothing.
      :ok = :gen_tcp.send(tcp, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" <> <<0::24, 4, 0, 0::32>>)
      {:ok, answer} = :gen_tcp.recv(tcp, 0, 5_000)
      assert answer =~ "HTTP/1.1 400"
      assert :gen_tcp.recv(tcp, 0, 5_000) in [{:error, :closed}, {:error, :econnreset}]
    end

    test "is not upgraded to: a client that offers it is served by HTTP/1.1", %{dir: dir} do
      offer =
        "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"

      answer = raw(start(dir), "GET /health/live HTTP/1.1\r\nhost: localhost\r\n#{offer}\r\n")
      assert answer =~ ~r"\AHTTP/1.1 200 "
    end
  end

  describe "a client that takes its time" do
    test "with its head is let go when that should be there, however it spreads its bytes", %{
      dir: dir
    } do
      port = start(dir)

      for opening <- ["", "GET /v1/jobs HTTP/1.1\r\nhost: localhost\r\nx-slow: "] do
        tcp = connect_tcp(port)
        if opening != "", do: :ok = :gen_tcp.send(tcp, opening)
        {answer, _sent} = dribble(tcp, ["a"], 100)
        assert answer == "" or answer =~ "HTTP/1.1 408"
      end
    end

    test "with a body is let go, and leaves neither file nor hold behind", %{dir: dir} do
      port = start(dir)

      for head <- [
            "POST /v1/artifacts HTTP/1.1\r\ncontent-length: 100000\r\n",
            "POST /v1/artifacts HTTP/1.1\r\ntransfer-encoding: chunked\r\n"
          ] do
        tcp = connect_tcp(port)
        more = "host: localhost\r\nx-api-key: #{secret("a")}\r\ncontent-type: text/plain\r\n\r\n"
        :ok = :gen_tcp.send(tcp, head <> more)
        eventually(fn -> Usage.held("a", :uploads) == 1 end)
        {answer, _sent} = dribble(tcp, ["1\r\nx\r\n"], 500)
        assert answer =~ "HTTP/1.1 408"
        eventually(fn -> Usage.held("a", :uploads) == 0 end)
        eventually(fn -> Usage.held("a", :stored_bytes) == 0 end)
        assert File.ls!(Path.join(dir, "tmp")) == []
      end
    end

    test "with a frame counts as silent, and is closed", %{dir: dir} do
      port = start(dir)
      tcp = open_raw(port, "x-api-key: #{secret("a")}\r\n")
      eventually(fn -> length(sockets()) == 1 end)
      [socket] = sockets()
      # A masked text frame of 200 bytes, of which some come each time that somebody looks.
      :ok = :gen_tcp.send(tcp, <<0x81, 0xFE, 200::16, 0::32>>)

      for _look <- 1..2 do
        :ok = :gen_tcp.send(tcp, "x")
        send(socket, :koma_idle_check)
      end

      assert {:ok, <<0x88, _length, 1001::16, "idle">>} = :gen_tcp.recv(tcp, 0, 5_000)
      eventually(fn -> Usage.held("a", :sockets) == 0 end)
    end
  end

  describe "origins" do
    test "of other pages open no socket and change nothing, with a right key and a cookie", %{
      dir: dir
    } do
      port = start(dir, origins: ["https://studio.example"])
      own = "http://127.0.0.1:#{port}"
      cookie = {"cookie", "koma_session=forged; x-api-key=#{secret("a")}"}

      for {origin, allowed?} <- [
            {own, true},
            {"https://studio.example", true},
            {"http://studio.example", false},
            {"https://studio.example.evil", false},
            {"https://studio.example:444", false},
            {"http://evil.example", false},
            {"null", false},
            {"", false},
            {own <> ".evil", false},
            {own <> "@evil", false},
            {"file://", false}
          ] do
        headers = [{"origin", origin}, as("a"), cookie]
        assert opens?(port, headers) == allowed?, origin
        refute opens?(port, [{"origin", origin}, cookie])

        {status, _, _} =
          http(port, "POST", "/v1/jobs", [{"content-type", "text/plain"} | headers], "{}")

        assert status == if(allowed?, do: 415, else: 403), origin
      end
    end

    test "that an operator named may read answers, and ask before; others may not", %{dir: dir} do
      port = start(dir, origins: ["https://studio.example"])
      ask = [{"access-control-request-method", "DELETE"}]

      for {origin, allowed?} <- [
            {"https://studio.example", true},
            {"https://evil.example", false}
          ] do
        {status, headers, _} = http(port, "OPTIONS", "/v1/jobs/x", [{"origin", origin} | ask])
        assert status == if(allowed?, do: 204, else: 405)
        assert headers["access-control-allow-methods"] == if(allowed?, do: "GET, HEAD, DELETE")
        {200, headers, _} = http(port, "GET", "/v1/jobs", [{"origin", origin}, as("a")])
        assert headers["access-control-allow-origin"] == if(allowed?, do: origin)
        assert headers["access-control-allow-credentials"] == nil
        assert headers["vary"] == "origin"
      end
    end

    test "by another name for this machine are refused where no keys are asked for", %{dir: dir} do
      port = start_server(dir)

      for {host, status} <- [
            {"localhost:#{port}", 200},
            {"127.0.0.1:#{port}", 200},
            {"[::1]:#{port}", 200},
            {"koma.localhost", 200},
            {"evil.example:#{port}", 403},
            {"localhost.evil.example", 403},
            {"127.0.0.1.evil.example:#{port}", 403},
            {"0.0.0.0:#{port}", 403},
            {"evil.example:80:localhost", 400}
          ] do
        for path <- ["/v1/jobs", "/v1/models", "/metrics"] do
          answer = raw(port, "GET #{path} HTTP/1.1\r\nhost: #{host}\r\nconnection: close\r\n\r\n")
          assert answer =~ "HTTP/1.1 #{status} ", "#{host} #{path}"
        end
      end

      rebound = [{"host", "evil.example:#{port}"}, {"origin", "http://evil.example:#{port}"}]
      refute opens?(port, rebound)
    end

    defp opens?(port, headers) do
      {gun, _stream} = connect(port, "vsn=2.0.0", headers)
      :gun.close(gun)
      true
    rescue
      error in RuntimeError -> error.message != "refused: 403" and reraise(error, __STACKTRACE__)
    end
  end

  describe "keys" do
    test "a thousand wrong ones leave neither memory nor atoms nor processes behind", %{dir: dir} do
      start(dir)
      guess = fn n -> Access.authenticate("koma_" <> Integer.to_string(n) <> "_wrong") end
      for n <- 1..100, do: guess.(n)
      before = footprint()
      for n <- 1..1_000, do: assert({:error, %{code: "unauthorized"}} = guess.(n))
      eventually(fn -> no_more?(footprint(), before) end)
    end

    test "the same over HTTP and sockets, in every place", %{dir: dir} do
      port = start(dir)
      guess(port, 0)
      before = footprint()
      for n <- 1..40, do: guess(port, n)
      # What the server does beside comes and goes; what guesses left behind would stay.
      eventually(fn -> no_more?(footprint(), before) end)
    end

    defp guess(port, n) do
      wrong = "koma_#{n}_wrong_in_#{n}"
      assert {401, _, _} = http(port, "GET", "/v1/jobs", [{"x-api-key", wrong}])
      assert {401, _, _} = http(port, "GET", "/v1/jobs?api_key=" <> wrong)
      refute opens?(port, [{"x-auth-token", wrong}])
    end

    defp no_more?(later, before), do: Enum.all?(later, fn {what, n} -> n <= before[what] end)

    defp footprint do
      # Counts of refusals have one row for each code.
      sizes =
        for table <- :ets.all(), is_atom(:ets.info(table, :name)), do: :ets.info(table, :size)

      %{
        atoms: :erlang.system_info(:atom_count),
        tables: Enum.sum(for size <- sizes, is_integer(size), do: size),
        processes: length(Process.list())
      }
    end

    test "answers say the same of every wrong key, however near it is", %{dir: dir} do
      port = start(dir)
      right = secret("a")
      near = binary_part(right, 0, byte_size(right) - 1) <> "_"

      answers =
        for wrong <- [
              "x",
              near,
              right <> "x",
              String.upcase(right),
              "a",
              String.duplicate("x", 4_000)
            ] do
          {401, headers, body} = http(port, "GET", "/v1/jobs", [{"x-api-key", wrong}])
          {Map.delete(headers, "date"), body}
        end

      assert [_one] = Enum.uniq(answers)
    end

    test "that a request showed are in no log line, not even when its handler breaks", %{dir: dir} do
      port = start(dir)
      socket = connect(port, "vsn=2.0.0&api_key=" <> secret("a"), [as("boss")])
      join!(socket, "jobs")
      Logger.configure(level: :debug)
      on_exit(fn -> Logger.configure(level: :warning) end)

      log =
        capture_log(fn ->
          break_page(port)
          break_socket(socket)
        end)

      assert log =~ "Koma.Live.Token"
      assert log =~ "Koma.Socket.Connection"
      for id <- ["a", "boss"], do: refute(log =~ secret(id))
    end

    # Without its secret no page can say whose session it is.
    defp break_page(port) do
      key = {Koma.Secret, :live}
      secret = :persistent_term.get(key)
      :persistent_term.erase(key)
      bearer = {"authorization", "Bearer " <> secret("boss")}
      headers = [as("a"), bearer, {"cookie", "koma_session=YQ.YQ; key=#{secret("a")}"}]
      assert {500, _, body} = http(port, "GET", "/dashboard?api_key=" <> secret("a"), headers)
      refute body =~ secret("a")
      :persistent_term.put(key, secret)
    end

    # No channel says such a thing, so the process of the socket dies of it.
    defp break_socket(socket) do
      [process] = sockets()
      [channel] = channels()
      monitor = Process.monitor(process)
      send(process, {:koma_channel, channel, :nonsense})
      assert_receive {:DOWN, ^monitor, :process, ^process, _reason}, 5_000
      # Ranch forgets it after it has told of it.
      eventually(fn -> process not in :ranch.procs(Koma.HTTP.Listener, :connections) end)
      assert {:down, _reason} = socket |> read_until(&match?({:down, _}, &1)) |> List.last()
    end
  end
end
