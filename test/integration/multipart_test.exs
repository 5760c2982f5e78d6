defmodule Koma.MultipartTest do
  @moduledoc "Uploads as forms, as `curl -F file=@clip.mp4` sends them."
  use Koma.EdgeCase

  defp bytes, do: :binary.copy("Koma, one frame of a film\r\n--x", 40_000)
  defp id(bytes), do: Base.encode16(:crypto.hash(:sha256, bytes), case: :lower)

  setup %{dir: dir} = context do
    {:ok, port: start_server(dir, Map.get(context, :options, max_upload_bytes: 3_000_000))}
  end

  defp part(name, body, more \\ "") do
    "--Xy7\r\ncontent-disposition: form-data; name=\"#{name}\"#{more}\r\n\r\n#{body}\r\n"
  end

  defp file(name, body, type \\ "text/plain") do
    part(name, body, "; filename=\"a.txt\"\r\ncontent-type: #{type}")
  end

  defp post(port, parts, headers \\ [], ending \\ "--Xy7--\r\n") do
    headers = [{"content-type", "multipart/form-data; boundary=Xy7"} | headers]
    http(port, "POST", "/v1/artifacts", headers, [parts, ending])
  end

  defp code(answer), do: json(answer)["error"]["code"]

  test "what curl sends is stored as the file alone, under the digest of its bytes", %{
    port: port,
    dir: dir
  } do
    {bytes, id} = {bytes(), id(bytes())}
    path = Path.join(dir, "clip.txt")
    File.write!(path, bytes)
    url = "http://localhost:#{port}/v1/artifacts"
    {told, 0} = System.cmd("curl", ["-sS", "-F", "file=@#{path};type=text/plain", url])
    assert {:ok, %{"id" => ^id, "media_type" => "text/plain"}} = Koma.JSON.decode(told)

    assert {200, %{"content-type" => "text/plain"}, ^bytes} =
             http(port, "GET", "/v1/artifacts/" <> id)

    assert {200, _headers, _body} = post(port, [part("note", "again"), file("file", bytes)])
  end

  test "the bytes come in whatever pieces, also cut inside of boundaries", %{port: port} do
    {:ok, tcp} = :gen_tcp.connect('localhost', port, [:binary, active: false, nodelay: true])
    small = binary_part(bytes(), 0, 120)
    body = IO.iodata_to_binary([file("file", small), "--Xy7--\r\n"])

    head =
      "POST /v1/artifacts HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n" <>
        "content-type: multipart/form-data; boundary=Xy7\r\ncontent-length: #{byte_size(body)}\r\n\r\n"

    :ok = :gen_tcp.send(tcp, head)
    for <<byte <- body>>, do: :ok = :gen_tcp.send(tcp, <<byte>>)
    {:ok, answer} = :gen_tcp.recv(tcp, 0, 10_000)
    assert answer =~ "201 Created"
    assert {200, _headers, ^small} = http(port, "GET", "/v1/artifacts/" <> id(small))
  end

  test "a form that is broken, or has not one file, is refused and leaves nothing behind", %{
    port: port,
    dir: dir
  } do
    for {parts, ending, wanted} <- [
          {[], "--Xy7--\r\n", "invalid_request"},
          {[part("file", "no file")], "--Xy7--\r\n", "invalid_request"},
          {[file("file", "")], "--Xy7--\r\n", "invalid_media"},
          {[file("file", "cut o")], "", "invalid_request"},
          {["--Xy7\r\n\r\nno head\r\n"], "--Xy7--\r\n", "invalid_request"},
          {["--Xy7\r\nnonsense\r\n\r\nx\r\n"], "--Xy7--\r\n", "invalid_request"},
          {[part("a", "x", String.duplicate(" ", 9_000))], "--Xy7--\r\n", "invalid_request"},
          {for(n <- 1..65, do: part("field#{n}", "x")), "--Xy7--\r\n", "too_large"},
          {[part("field", String.duplicate("x", 1_100_000))], "--Xy7--\r\n", "too_large"},
          {[file("file", String.duplicate("x", 3_000_001))], "--Xy7--\r\n", "too_large"}
        ] do
      answer = post(port, parts, [], ending)
      assert code(answer) == wanted, inspect({wanted, IO.iodata_length(parts), answer})
    end

    none = http(port, "POST", "/v1/artifacts", [{"content-type", "multipart/form-data"}], "x")
    assert code(none) == "invalid_request"
    digest = [{"x-content-sha256", id("something else")}]
    assert {400, _headers, _body} = other = post(port, [file("file", "others")], digest)
    assert code(other) == "digest_mismatch"

    assert File.ls!(Path.join(dir, "tmp")) == []
    assert File.ls!(Path.join(dir, "artifacts")) == []
  end
end
