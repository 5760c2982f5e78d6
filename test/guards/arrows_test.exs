defmodule Koma.ArrowsTest do
  @moduledoc """
  The list of docs/architecture.md says which folder of `lib/koma` may use which other one. What the
  compiler knows (`mix xref graph`) is held against it.
  """
  use ExUnit.Case, async: true

  import ExUnit.CaptureIO

  @doc_path Path.expand("../../docs/architecture.md", __DIR__)

  # What starts everything uses everything.
  @starts ~w(application supervisor core)
  # Words that all folders share; they use one another only.
  @words ~w(caller each error json log_line params schema shown telemetry wire)

  test "every arrow between two folders is in the list of docs/architecture.md" do
    listed = MapSet.union(list("arrows"), list("arrows-up"))
    missing = MapSet.difference(used(), listed)

    assert MapSet.size(missing) == 0,
           "not in the list of docs/architecture.md: #{inspect(Enum.sort(missing))}; " <>
             "tell a listener, or move what is used to a lower folder"
  end

  test "the list goes down only, but for the arrows that it names as pointing up" do
    order = for {from, _to} <- rows("arrows"), do: from
    place = order |> Enum.with_index() |> Map.new()
    assert length(order) == map_size(place), "a folder is listed twice"

    for {from, to} <- list("arrows") do
      assert place[to], "#{to} has no line of its own"
      assert place[to] > place[from], "#{from} -> #{to} points up"
    end
  end

  test "an arrow that points up and is used no more has left the list" do
    gone = MapSet.difference(list("arrows-up"), used())
    assert MapSet.size(gone) == 0, "take out of the list: #{inspect(Enum.sort(gone))}"
  end

  test "shared words use no folder" do
    bad = for {from, to} <- arrows(), from in @words, to not in @words, do: {from, to}
    assert bad == []
  end

  test "the picture shows arrows of the list only" do
    listed = list("arrows")
    folders = for {from, _to} <- rows("arrows"), do: from
    [picture | _other_pictures] = blocks("mermaid")

    shown =
      for line <- String.split(picture, "\n"),
          ends = line |> String.split(["-->", "---"]) |> Enum.map(&ends/1),
          [froms, tos] <- Enum.chunk_every(ends, 2, 1, :discard),
          from <- froms,
          to <- tos,
          from in folders and to in folders,
          do: {from, to}

    assert length(shown) > 5
    assert Enum.reject(shown, &(&1 in listed)) == []
  end

  # `a & b[(text)]` names a and b.
  defp ends(text) do
    for part <- String.split(text, "&"), [name] <- [Regex.run(~r/\w+/, part)], do: name
  end

  defp list(block),
    do: for({from, tos} <- rows(block), to <- tos, into: MapSet.new(), do: {from, to})

  defp rows(block) do
    [text] = blocks(block)

    for line <- String.split(text, "\n", trim: true) do
      [from, tos] = String.split(line, "->")
      {String.trim(from), String.split(tos)}
    end
  end

  defp blocks(kind) do
    doc = File.read!(@doc_path)
    for [_, text] <- Regex.scan(~r/```#{kind}\n(.*?)```/s, doc), do: text
  end

  # Between folders, without those that everybody may use and those that may use everybody.
  defp used do
    for {from, to} <- arrows(),
        from not in @starts and from not in @words and to not in @words,
        into: MapSet.new(),
        do: {from, to}
  end

  defp arrows do
    for {from, to} <- files(), from = unit(from), to = unit(to), from != to, uniq: true do
      {from, to}
    end
  end

  # The façade of a folder belongs to it.
  defp unit("lib/koma/" <> path), do: path |> Path.split() |> hd() |> Path.rootname()
  defp unit("lib/koma.ex"), do: "koma"

  # Each file stands on a line of its own, with those that it uses below.
  defp files do
    lines = capture_io(fn -> Mix.Tasks.Xref.run(~w(graph --no-compile --format plain)) end)
    found = lines |> String.split("\n", trim: true) |> Enum.reduce({nil, []}, &file/2) |> elem(1)
    assert length(found) > 500
    for {"lib/" <> _ = from, "lib/" <> _ = to} <- found, do: {from, to}
  end

  defp file("|-- " <> used, {user, found}), do: {user, [{user, path(used)} | found]}
  defp file("`-- " <> used, {user, found}), do: {user, [{user, path(used)} | found]}
  defp file(user, {_before, found}), do: {path(user), found}

  defp path(text), do: text |> String.split(" ") |> hd()
end
