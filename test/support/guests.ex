defmodule Koma.Guests do
  @moduledoc """
  What somebody without a key sends who wants the memory of the server: each attack holds what it has
  sent for as long as the server lets it.
  """

  @head "host: localhost\r\n"
  @upgrade "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n" <>
             "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
  @mib 1024 * 1024

  @doc "Every attack by its name."
  @spec attacks() :: [{String.t(), (:gen_tcp.socket() -> term)}]
  def attacks do
    [
      {"a frame of 8 MiB to a page", &frame(&1, "/live/websocket")},
      {"a frame of 8 MiB to the socket", &frame(&1, "/socket/websocket")},
      {"half a frame", &half_frame/1},
      {"a frame in pieces without end", &pieces/1},
      {"frames that open to much", &deflated/1},
      {"joins", &joins/1},
      {"half a head", &half_head/1},
      {"a header again and again", &repeated/1},
      {"half a body", &half_body(&1, "/v1/jobs", "application/json")},
      {"half a file", &half_body(&1, "/v1/artifacts", "video/mp4")},
      {"half a login", &half_body(&1, "/dashboard/login", "application/x-www-form-urlencoded")},
      {"small chunks", &chunks/1},
      {"HTTP/2 header blocks without end", &continuations/1},
      {"10,000 requests at once", &pipelined(&1, "/health/live", "")},
      {"10,000 requests with long queries", &pipelined(&1, "/v1/jobs?" <> text(7_000), "")},
      {"10,000 requests with large cookies", &pipelined(&1, "/", "cookie: #{text(4_000)}\r\n")},
      {"answers that nobody reads", &pipelined(&1, "/static/studio/main.js", "")}
    ]
  end

  @doc "Opens a connection, and sends all that the server takes; the connection stays open."
  @spec attack(:inet.port_number(), (:gen_tcp.socket() -> term)) ::
          {:ok, :gen_tcp.socket()} | {:error, term}
  def attack(port, attack) do
    # Who waits for longer than this has met a server that does not read on.
    options = [:binary, active: false, send_timeout: 2_000, send_timeout_close: true]

    with {:ok, tcp} <- :gen_tcp.connect('127.0.0.1', port, options, 5_000) do
      attack.(tcp)
      {:ok, tcp}
    end
  end

  defp text(size), do: String.duplicate("a", size)

  defp send_all(tcp, parts), do: Enum.find_value(parts, :ok, &refused(:gen_tcp.send(tcp, &1)))
  defp refused(:ok), do: nil
  defp refused(error), do: error

  defp open(tcp, path, more \\ "") do
    :gen_tcp.send(tcp, "GET #{path}?vsn=2.0.0 HTTP/1.1\r\n#{@head}#{@upgrade}#{more}\r\n")
  end

  defp frame(tcp, path) do
    open(tcp, path)
    numbers = String.duplicate("1,", div(@mib, 2))
    send_all(tcp, [<<0x81, 0xFF, 8 * @mib::64, 0::32>> | List.duplicate(numbers, 8)])
  end

  defp half_frame(tcp) do
    open(tcp, "/live/websocket")
    send_all(tcp, [<<0x81, 0xFE, 65_535::16, 0::32>>, text(65_000)])
  end

  defp pieces(tcp) do
    open(tcp, "/live/websocket")
    piece = [<<0x00, 0xFE, 30_000::16, 0::32>>, text(30_000)]
    send_all(tcp, [<<0x01, 0x81, 0::32, "[">> | List.duplicate(piece, 200)])
  end

  # RFC 7692: 8 MiB of zeros in some kB.
  defp deflated(tcp) do
    open(tcp, "/live/websocket", "sec-websocket-extensions: permessage-deflate\r\n")
    bomb = :zlib.zip(text(8 * @mib))
    size = byte_size(bomb)
    send_all(tcp, List.duplicate([<<0xC1, 0xFE, size::16, 0::32>>, bomb], 20))
  end

  defp joins(tcp) do
    open(tcp, "/live/websocket")

    send_all(tcp, for(n <- 1..2_000, do: short_frame(~s(["#{n}","1","lv:#{n}","phx_join",{}]))))
  end

  defp short_frame(text), do: [<<0x81, 1::1, byte_size(text)::7, 0::32>>, text]

  defp half_head(tcp) do
    many = for n <- 1..99, do: "x-#{n}: #{text(4_000)}\r\n"
    send_all(tcp, ["GET /#{text(7_000)} HTTP/1.1\r\n#{@head}" | many])
  end

  defp repeated(tcp) do
    cookies = String.duplicate("cookie: #{text(4_000)}\r\n", 250)
    send_all(tcp, ["GET / HTTP/1.1\r\n#{@head}" | List.duplicate(cookies, 16)])
  end

  defp half_body(tcp, path, type) do
    head = "POST #{path} HTTP/1.1\r\n#{@head}content-type: #{type}\r\n"

    send_all(tcp, [
      "#{head}content-length: #{8 * @mib + 1}\r\n\r\n"
      | List.duplicate(text(@mib), 8)
    ])
  end

  defp chunks(tcp) do
    head = "POST /v1/jobs HTTP/1.1\r\n#{@head}content-type: application/json\r\n"
    many = List.duplicate(String.duplicate("1\r\n[\r\n", 10_000), 100)
    send_all(tcp, [head <> "transfer-encoding: chunked\r\n\r\n" | many])
  end

  # RFC 9113: the preface, SETTINGS, HEADERS without END_HEADERS, CONTINUATION for ever.
  defp continuations(tcp) do
    preface = ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", <<0::24, 4, 0, 0::32>>]
    block = text(16_384)
    head = <<byte_size(block)::24, 1, 0, 1::32>>
    more = [<<byte_size(block)::24, 9, 0, 1::32>>, block]
    send_all(tcp, [preface, head, block | List.duplicate(more, 500)])
  end

  defp pipelined(tcp, path, headers) do
    request = "GET #{path} HTTP/1.1\r\n#{@head}#{headers}\r\n"
    send_all(tcp, List.duplicate(String.duplicate(request, 100), 100))
  end
end
