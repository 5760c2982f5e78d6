defmodule Koma.LogLine do
  @moduledoc """
  What foreign text looks like in the log: a name, a message of a model node, an answer of Redis.

  `text/2` makes one line of it, in which nothing acts on a terminal or looks like another line:
  control characters, escapes, separators of lines, marks of direction and invalid UTF-8 are told
  as `\\n`, `\\e`, `\\u2028` or `\\xFF`, and what is too long is cut. `format/4` does the same for whole
  log lines: those that follow the first are indented, so none can be mistaken for a line of its own.
  """

  @max_field 1_000
  @max_line 8_000
  @max_lines 200

  @pattern Logger.Formatter.compile("$time $metadata[$level] $message\n")

  @doc "A foreign text as one line of at most so many bytes, and a few to say what was cut."
  @spec text(term, pos_integer) :: String.t()
  def text(value, max \\ @max_field)

  def text(value, max) when is_binary(value) and byte_size(value) > max do
    cut = value |> binary_part(0, max) |> whole()
    "#{text(cut, max)}… (#{byte_size(value)} bytes)"
  end

  def text(value, _max) when is_binary(value), do: IO.iodata_to_binary(escape(value, []))
  def text(value, max), do: value |> inspect(limit: 50, printable_limit: max) |> text(max)

  # A character that was cut in two is not an invalid one.
  defp whole(bytes) do
    Enum.find_value(0..3, bytes, fn less ->
      head = binary_part(bytes, 0, max(byte_size(bytes) - less, 0))
      if String.valid?(head), do: head
    end)
  end

  @doc "A foreign text of several lines, e.g. a traceback: each as `text/2`, all but the first indented."
  @spec lines(String.t()) :: String.t()
  def lines(value) do
    {shown, more} = value |> String.split("\n") |> Enum.split(@max_lines)
    told = if more == [], do: [], else: ["… (#{length(more)} more lines)"]
    Enum.map_join(shown, "\n    ", &text(&1, @max_line)) <> Enum.map_join(told, &("\n    " <> &1))
  end

  @doc "A line of the log, for `config :logger, :console`."
  @spec format(Logger.level(), Logger.message(), Logger.Formatter.time(), keyword) ::
          IO.chardata()
  def format(level, message, timestamp, metadata) do
    message = message |> bytes() |> String.trim_trailing("\n") |> lines()
    metadata = for {name, value} <- metadata, do: {name, shown(value)}
    Logger.Formatter.format(@pattern, level, message, timestamp, metadata)
  end

  defp shown(value) when is_binary(value), do: text(value, 200)
  defp shown(value), do: value

  defp bytes(message) do
    case :unicode.characters_to_binary(message) do
      text when is_binary(text) -> text
      _invalid -> IO.iodata_to_binary(message)
    end
  rescue
    ArgumentError -> inspect(message)
  end

  defp escape(<<>>, done), do: Enum.reverse(done)
  defp escape(<<?\n, rest::binary>>, done), do: escape(rest, ["\\n" | done])
  defp escape(<<?\r, rest::binary>>, done), do: escape(rest, ["\\r" | done])
  defp escape(<<?\t, rest::binary>>, done), do: escape(rest, ["\\t" | done])
  defp escape(<<?\e, rest::binary>>, done), do: escape(rest, ["\\e" | done])

  defp escape(<<char::utf8, rest::binary>>, done) do
    shown = if acts?(char), do: ["\\u", hex(char, 4)], else: <<char::utf8>>
    escape(rest, [shown | done])
  end

  defp escape(<<byte, rest::binary>>, done), do: escape(rest, [["\\x", hex(byte, 2)] | done])

  # Controls, separators, marks of direction, and what is not seen.
  defp acts?(char) do
    char < 0x20 or char in 0x7F..0x9F or char in 0x200B..0x200F or char in 0x2028..0x202E or
      char in 0x2060..0x206F or char in 0xFFF9..0xFFFB or char in 0xE0000..0xE007F or
      char in [0xAD, 0x61C, 0x180E, 0xFEFF]
  end

  defp hex(number, digits), do: number |> Integer.to_string(16) |> String.pad_leading(digits, "0")
end
