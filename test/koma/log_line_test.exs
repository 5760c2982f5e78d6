defmodule Koma.LogLineTest do
  use ExUnit.Case, async: true

  import Koma.Properties
  alias Koma.LogLine

  @time {{2026, 1, 2}, {3, 4, 5, 678}}

  test "what acts on a terminal or looks like a line of its own is told, not done" do
    assert LogLine.text("a\nb\r\tc") == "a\\nb\\r\\tc"
    assert LogLine.text("\e[2J\e]0;title\a") == "\\e[2J\\e]0;title\\u0007"
    assert LogLine.text("a\u2028b\u2029c\u0085d") == "a\\u2028b\\u2029c\\u0085d"
    assert LogLine.text("\u202Eevil\u2066\u200B") == "\\u202Eevil\\u2066\\u200B"
    assert LogLine.text(<<"é コマ 🙂 ", 0xFF, 0xC3>>) == "é コマ 🙂 \\xFF\\xC3"
    assert LogLine.text({:a, "b\nc"}) == ~S({:a, "b\\nc"}) |> String.replace("\\\\n", "\\n")
  end

  test "what is too long is cut between characters, and says how long it was" do
    assert LogLine.text(String.duplicate("é", 1_000), 101) ==
             String.duplicate("é", 50) <> "… (2000 bytes)"

    assert byte_size(LogLine.text(:binary.copy(<<0xFF>>, 1_000_000))) < 5_000
  end

  test "lines after the first are indented, and so is what a message forges" do
    forged = "a traceback\n03:04:05.678 [info] Koma listens on http://evil\r\n\e[2K"
    text = format(forged, job: "job_1\n[error] b")

    assert text ==
             "03:04:05.678 job=job_1\\n[error] b [info] a traceback\n" <>
               "    03:04:05.678 [info] Koma listens on http://evil\\r\n    \\e[2K\n"

    assert format(["io", ?d, "ata: ", 0x30B3], []) =~ "iodata: コ\n"
    assert format(<<0xFF, "x">>, []) =~ "\\xFFx\n"
    assert format(List.duplicate("x\n", 10_000), []) =~ "… (9800 more lines)"
  end

  test "of any bytes there is one line, in UTF-8, of visible characters" do
    holds(one_of([bytes(), text()]), fn bytes ->
      line = LogLine.text(bytes)
      [_first | further] = bytes |> format([]) |> String.trim_trailing("\n") |> String.split("\n")

      String.valid?(line) and
        not (line =~ ~r/[\x00-\x1f\x7f\x{80}-\x{9f}\x{2028}\x{2029}\x{202a}-\x{202e}]/u) and
        Enum.all?(further, &String.starts_with?(&1, "    "))
    end)
  end

  defp format(message, metadata) do
    :info |> LogLine.format(message, @time, metadata) |> IO.chardata_to_string()
  end
end
