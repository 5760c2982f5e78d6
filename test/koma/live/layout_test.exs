defmodule Koma.Live.LayoutTest do
  use ExUnit.Case, async: true

  alias Koma.JSON
  alias Koma.Live.{Layout, Panel}

  doctest Layout

  setup do
    layout = Layout.new(["<main>", :nodes, "<hr>", :jobs, "</main>"])
    panels = %{nodes: Panel.new({:safe, ~s(<b>"1"</b>)}), jobs: Panel.new({:safe, ""})}
    {:ok, layout: layout, panels: panels}
  end

  # What the official client makes of it: tests/browser/dashboard.test.mjs.
  test "the tree has the statics, and every panel as a string", %{layout: layout, panels: panels} do
    assert {:ok, tree} = JSON.decode(Layout.tree(layout, panels))

    assert tree == %{
             "s" => ["<main>", "<hr>", "</main>"],
             "0" => ~s(<b>"1"</b>),
             "1" => ""
           }
  end

  test "the page is what a client makes of the tree", %{layout: layout, panels: panels} do
    {:ok, %{"s" => [first | statics]} = tree} = JSON.decode(Layout.tree(layout, panels))

    rendered =
      statics
      |> Enum.with_index()
      |> Enum.reduce(first, fn {static, n}, html -> html <> tree["#{n}"] <> static end)

    assert IO.iodata_to_binary(Layout.html(layout, panels)) == rendered
  end

  test "a diff holds the panels that changed, by their position", %{layout: layout} do
    diff = Layout.diff(layout, %{jobs: Panel.new({:safe, "<p>new</p>"})})
    assert JSON.decode(diff) == {:ok, %{"1" => "<p>new</p>", "e" => [["seen", %{}]]}}
  end
end
