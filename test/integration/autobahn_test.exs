defmodule Koma.AutobahnTest do
  @moduledoc """
  The cases of Autobahn's fuzzing client for servers (sections 1 to 10 of its list), one by one over
  raw sockets against an echo on the real connections. Its own program, `wstest` of the package
  autobahntestsuite, does not start on Python 3. Sections 12 and 13 are about compression, which this server does not offer.
  """
  use Koma.EdgeCase

  @text 1
  @binary 2
  @close 8
  @ping 9
  @pong 10

  setup %{dir: dir} do
    start_server(dir)
    {:ok, port: Koma.EchoSocket.start()}
  end

  # --- frames

  defp frame(opcode, data \\ "", options \\ []) do
    fin = if Keyword.get(options, :fin, true), do: 1, else: 0
    reserved = Keyword.get(options, :rsv, 0)
    mask = :crypto.strong_rand_bytes(4)
    head = <<fin::1, reserved::3, opcode::4, 1::1>>
    <<head::bitstring, size(byte_size(data))::bitstring, mask::binary, mask(data, mask)::binary>>
  end

  defp size(bytes) when bytes < 126, do: <<bytes::7>>
  defp size(bytes) when bytes < 65_536, do: <<126::7, bytes::16>>
  defp size(bytes), do: <<127::7, bytes::64>>

  defp mask(data, mask) do
    repeated = :binary.copy(mask, div(byte_size(data), 4) + 1)
    :crypto.exor(data, binary_part(repeated, 0, byte_size(data)))
  end

  # A message in fragments of so many bytes.
  defp fragments(opcode, data, bytes) do
    parts = chop(data, bytes)
    last = length(parts) - 1

    for {part, at} <- Enum.with_index(parts),
        do: frame(if(at == 0, do: opcode, else: 0), part, fin: at == last)
  end

  defp chop(data, bytes) when byte_size(data) <= bytes, do: [data]

  defp chop(data, bytes) do
    <<part::binary-size(bytes), rest::binary>> = data
    [part | chop(rest, bytes)]
  end

  # --- what is said

  # Sends all of it, in pieces of so many bytes, and hears until the server closes or nothing is left to hear.
  defp say(port, frames, expected, piece) do
    tcp = open_raw(port, "", "/echo")
    data = IO.iodata_to_binary(frames)

    # The server may have closed before the end.
    for part <- if(piece, do: chop(data, piece), else: [data]), do: :gen_tcp.send(tcp, part)
    heard = hear(tcp, "", length(List.wrap(expected)))
    :gen_tcp.close(tcp)
    heard
  end

  defp hear(_tcp, _bytes, 0), do: []

  defp hear(tcp, bytes, left) do
    case parse(bytes) do
      {{@close, data}, _rest} -> [{@close, code(data)}]
      {message, rest} -> [message | hear(tcp, rest, left - 1)]
      :more -> more(tcp, bytes, left)
    end
  end

  defp more(tcp, bytes, left) do
    case :gen_tcp.recv(tcp, 0, 10_000) do
      {:ok, data} -> hear(tcp, bytes <> data, left)
      {:error, :timeout} -> [:silence]
      {:error, _closed} -> [:closed]
    end
  end

  defp parse(<<1::1, 0::3, opcode::4, 0::1, 127::7, n::64, data::binary-size(n), rest::binary>>),
    do: {{opcode, data}, rest}

  defp parse(<<1::1, 0::3, opcode::4, 0::1, 126::7, n::16, data::binary-size(n), rest::binary>>),
    do: {{opcode, data}, rest}

  defp parse(<<1::1, 0::3, opcode::4, 0::1, n::7, data::binary-size(n), rest::binary>>)
       when n < 126,
       do: {{opcode, data}, rest}

  defp parse(_part), do: :more

  defp code(<<code::16, _reason::binary>>), do: code
  defp code(""), do: nil

  defp echo(data), do: {@text, data}
  defp failed(code \\ 1002), do: {@close, code}

  # A case ends with an orderly close, so that what was not expected is heard as well.
  defp check(port, name, frames, expected, piece \\ nil) do
    ends? = match?({@close, _code}, List.last(expected))
    frames = if ends?, do: frames, else: [frames, frame(@close, <<1000::16>>)]
    expected = if ends?, do: expected, else: expected ++ [{@close, 1000}]
    heard = say(port, frames, expected, piece)
    assert {name, told(heard, expected, piece)} == {name, expected}
  end

  # While this client still sends piece after piece, the server's end may overtake its last word.
  defp told(heard, expected, piece) do
    if piece && List.last(heard) == :closed && match?({@close, 1002}, List.last(expected)),
      do: List.replace_at(heard, -1, List.last(expected)),
      else: heard
  end

  # --- the cases

  test "1: messages of every length come back, whole and in pieces", %{port: port} do
    for {opcode, section} <- [{@text, "1.1"}, {@binary, "1.2"}] do
      for {bytes, at} <- Enum.with_index([0, 125, 126, 127, 128, 65_535, 65_536], 1) do
        data = String.duplicate("*", bytes)
        check(port, "#{section}.#{at}", frame(opcode, data), [{opcode, data}])
      end

      data = String.duplicate("*", 65_536)
      check(port, "#{section}.8", frame(opcode, data), [{opcode, data}], 997)
    end
  end

  test "2: pings are answered with what they hold, pongs with nothing", %{port: port} do
    odd = <<0, 0xFF, 0xFE, 0xFD, 0xFC, 0xFB, 0, 0xFF>>
    long = :binary.copy(<<0xFE>>, 125)
    check(port, "2.1", frame(@ping), [{@pong, ""}])
    check(port, "2.2", frame(@ping, "Hello, world!"), [{@pong, "Hello, world!"}])
    check(port, "2.3", frame(@ping, odd), [{@pong, odd}])
    check(port, "2.4", frame(@ping, long), [{@pong, long}])
    check(port, "2.5", frame(@ping, long <> "x"), [failed()])
    check(port, "2.6", frame(@ping, long), [{@pong, long}], 1)
    check(port, "2.7", frame(@pong), [])
    check(port, "2.8", frame(@pong, "unasked"), [])
    check(port, "2.9", [frame(@pong, "unasked"), frame(@ping, "a")], [{@pong, "a"}])
    ten = for n <- 0..9, do: "payload-#{n}"
    pings = Enum.map(ten, &frame(@ping, &1))
    pongs = Enum.map(ten, &{@pong, &1})
    check(port, "2.10", pings, pongs)
    check(port, "2.11", pings, pongs, 1)
  end

  test "3: reserved bits fail the connection", %{port: port} do
    before = frame(@text, "Hello")
    check(port, "3.1", frame(@text, "Hello", rsv: 1), [failed()])

    for {rsv, opcode, piece} <- [
          {2, @text, nil},
          {3, @text, nil},
          {4, @text, 1},
          {5, @binary, nil},
          {6, @ping, nil}
        ] do
      said = [before, frame(opcode, "Hello", rsv: rsv), frame(@ping)]
      check(port, "3.#{rsv}", said, [echo("Hello"), failed()], piece)
    end

    check(port, "3.7", frame(@close, "", rsv: 7), [failed()])
  end

  test "4: opcodes that nobody has defined fail the connection", %{port: port} do
    before = frame(@text, "Hello")

    for opcode <- [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] do
      check(port, "4: #{opcode}", frame(opcode, "data"), [failed()])
      said = [before, frame(opcode), frame(@ping)]
      check(port, "4: #{opcode} later", said, [echo("Hello"), failed()])
      check(port, "4: #{opcode} in pieces", said, [echo("Hello"), failed()], 1)
    end
  end

  test "5: fragments are put together, with pings between them; others fail the connection", %{
    port: port
  } do
    first = frame(@text, "fragment1", fin: false)
    last = frame(0, "fragment2")
    whole = echo("fragment1fragment2")

    for {opcode, name} <- [{@ping, "5.1"}, {@pong, "5.2"}] do
      check(port, name, [frame(opcode, "a", fin: false), frame(0, "b")], [failed()])
    end

    for {piece, at} <- [{nil, 0}, {5, 1}, {1, 2}] do
      check(port, "5.#{3 + at}", [first, last], [whole], piece)
      check(port, "5.#{6 + at}", [first, frame(@ping, "p"), last], [{@pong, "p"}, whole], piece)
      check(port, "5.#{9 + at}", [frame(0, "alone"), frame(@text, "a")], [failed()], piece)
      alone = frame(0, "alone", fin: false)
      check(port, "5.#{12 + at}", [alone, frame(@text, "a")], [failed()], piece)
    end

    more = frame(0, "more", fin: false)
    check(port, "5.15", [first, last, more, frame(@text, "a")], [whole, failed()])
    text = frame(@text, "a", fin: false)
    check(port, "5.16", [more, text, last], [failed()])
    check(port, "5.17", [last, text, last], [failed()])
    check(port, "5.18", [first, frame(@text, "fragment2")], [failed()])

    five = fragments(@text, "fragment1fragment2fragment3fragment4fragment5", 9)
    said = List.insert_at(List.insert_at(five, 2, frame(@ping, "1")), 5, frame(@ping, "2"))
    heard = [{@pong, "1"}, {@pong, "2"}, echo("fragment1fragment2fragment3fragment4fragment5")]
    check(port, "5.19", said, heard)
    check(port, "5.20", said, heard, 1)
  end

  test "6: text is UTF-8, however it is cut; what is none fails with 1007", %{port: port} do
    check(port, "6.1.1", frame(@text), [echo("")])
    empty = [frame(@text, "", fin: false), frame(0, "", fin: false), frame(0)]
    check(port, "6.1.2", empty, [echo("")])
    between = [frame(@text, "", fin: false), frame(0, "middle", fin: false), frame(0)]
    check(port, "6.1.3", between, [echo("middle")])

    for {text, at} <- Enum.with_index(valid()) do
      check(port, "6 valid #{at}", frame(@text, text), [echo(text)])
      check(port, "6 valid #{at} in fragments", fragments(@text, text, 1), [echo(text)])
    end

    for {text, at} <- Enum.with_index(invalid()) do
      check(port, "6 invalid #{at}", frame(@text, text), [failed(1007)])
      check(port, "6 invalid #{at} in fragments", fragments(@text, text, 1), [failed(1007)])
    end
  end

  test "6.4: text that can be no UTF-8 any more fails before its end has come", %{port: port} do
    broken = <<0xCE, 0xBA, 0xE1, 0xBD, 0xB9, 0xF4, 0x90>>
    tcp = open_raw(port, "", "/echo")
    :ok = :gen_tcp.send(tcp, frame(@text, broken, fin: false))
    assert hear(tcp, "", 1) == [failed(1007)]

    # Within one frame as well.
    tcp = open_raw(port, "", "/echo")
    whole = frame(@text, broken <> String.duplicate("x", 1000))
    :ok = :gen_tcp.send(tcp, binary_part(whole, 0, 100))
    assert hear(tcp, "", 1) == [failed(1007)]
  end

  test "7: a close is answered with its code, and nothing after it; a wrong one with 1002", %{
    port: port
  } do
    close = frame(@close, <<1000::16>>)
    done = {@close, 1000}
    check(port, "7.1.1", [frame(@text, "Hello"), close], [echo("Hello"), done])
    check(port, "7.1.2", [close, close], [done])
    check(port, "7.1.3", [close, frame(@ping)], [done])
    check(port, "7.1.4", [close, frame(@text, "Hello")], [done])
    check(port, "7.1.5", [frame(@text, "a", fin: false), close, frame(0, "b")], [done])
    large = String.duplicate("BAsd7&jh23", 26_214)
    check(port, "7.1.6", [frame(@text, large), close, frame(@ping)], [echo(large), done])
    check(port, "7.3.1", frame(@close), [{@close, nil}])
    check(port, "7.3.2", frame(@close, "a"), [failed()])
    check(port, "7.3.4", frame(@close, <<1000::16, "Hello World!">>), [done])
    check(port, "7.3.5", frame(@close, <<1000::16, String.duplicate("*", 123)::binary>>), [done])

    check(port, "7.3.6", frame(@close, <<1000::16, String.duplicate("*", 124)::binary>>), [
      failed()
    ])

    check(port, "7.5.1", frame(@close, <<1000::16, 0xCE, 0xBA, 0xED, 0xA0, 0x80>>), [failed(1007)])

    for code <- [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] do
      check(port, "7.7: #{code}", frame(@close, <<code::16>>), [{@close, code}])
    end

    for code <- [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65_535] do
      check(port, "7.9: #{code}", frame(@close, <<code::16>>), [failed()])
    end
  end

  test "9 and 10: large messages come back, in one frame, in fragments and in pieces", %{
    port: port
  } do
    for opcode <- [@text, @binary], bytes <- [262_144, 1_048_576] do
      data = String.duplicate("*", bytes)
      check(port, "9: #{bytes}", frame(opcode, data), [{opcode, data}])
      check(port, "9: #{bytes} in fragments", fragments(opcode, data, 65_536), [{opcode, data}])
    end

    long = String.duplicate("*", 262_144)
    check(port, "9.5", frame(@text, long), [echo(long)], 1024)
    check(port, "9.3", fragments(@text, long, 256), [echo(long)])

    for bytes <- [0, 16, 64, 256, 1024] do
      data = String.duplicate("*", bytes)
      many = 100
      heard = List.duplicate({@binary, data}, many)
      check(port, "9.8: #{bytes}", List.duplicate(frame(@binary, data), many), heard)
    end

    data = String.duplicate("*", 65_536)
    check(port, "10.1.1", fragments(@text, data, 1300), [echo(data)])
  end

  # Sections 6.2 to 6.23, after Markus Kuhn's stress test of decoders.
  defp valid do
    ["Hello-µ@ßöäüàá-UTF-8!!", "κόσμε", "\0", <<0x80::utf8>>, <<0x800::utf8>>, <<0x10000::utf8>>] ++
      for point <- [
            0x7F,
            0x7FF,
            0xFFFF,
            0xD7FF,
            0xE000,
            0xFFFD,
            0x10FFFF,
            0xFFFE,
            0x1FFFE,
            0x10FFFE
          ],
          do: <<point::utf8>>
  end

  defp invalid do
    start = "κόσμε"

    [
      start <> <<0xED, 0xA0, 0x80>> <> "edited",
      <<0xF8, 0x88, 0x80, 0x80, 0x80>>,
      <<0xFC, 0x84, 0x80, 0x80, 0x80, 0x80>>,
      <<0xF7, 0xBF, 0xBF, 0xBF>>,
      <<0xF4, 0x90, 0x80, 0x80>>,
      <<0x80>>,
      <<0xBF>>,
      <<0x80, 0xBF, 0x80>>,
      Enum.into(0x80..0xBF, "", &<<&1>>),
      Enum.into(0xC0..0xDF, "", &<<&1, 0x20>>),
      Enum.into(0xE0..0xEF, "", &<<&1, 0x20>>),
      Enum.into(0xF0..0xF7, "", &<<&1, 0x20>>),
      # Sequences that lack their last byte.
      <<0xC0>>,
      <<0xE0, 0x80>>,
      <<0xF0, 0x80, 0x80>>,
      <<0xDF>>,
      <<0xEF, 0xBF>>,
      <<0xFE>>,
      <<0xFF>>,
      <<0xFE, 0xFE, 0xFF, 0xFF>>,
      # The same characters, longer than they need be.
      <<0xC0, 0xAF>>,
      <<0xE0, 0x80, 0xAF>>,
      <<0xF0, 0x80, 0x80, 0xAF>>,
      <<0xC1, 0xBF>>,
      <<0xE0, 0x9F, 0xBF>>,
      <<0xF0, 0x8F, 0xBF, 0xBF>>,
      <<0xC0, 0x80>>,
      # Halves of surrogates, alone and paired.
      <<0xED, 0xA0, 0x80>>,
      <<0xED, 0xAD, 0xBF>>,
      <<0xED, 0xBF, 0xBF>>,
      <<0xED, 0xA0, 0x80, 0xED, 0xB0, 0x80>>,
      <<0xED, 0xAF, 0xBF, 0xED, 0xBF, 0xBF>>
    ]
  end
end
