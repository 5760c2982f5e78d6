defmodule Koma.Live.Layout do
  @moduledoc """
  A page of named panels in the format of LiveView's client, version 1.2: pure.

  The fixed HTML between the panels are the *statics*, the panels the *dynamics*. A dynamic is always
  a string, for to the client a number is the id of a component. First the whole tree is sent,
  `{"s": [statics], "0": panel, …}`, then diffs that hold the panels that changed.
  """

  alias Koma.Live.Panel

  @enforce_keys [:statics, :names]
  defstruct [:statics, :names]

  @type name :: atom
  @type t :: %__MODULE__{statics: [binary, ...], names: [name]}

  @doc """
  A layout from HTML and names of panels in their order; two panels have HTML between them.

      iex> Koma.Live.Layout.new(["<main>", :nodes, "</main>"])
      %Koma.Live.Layout{statics: ["<main>", "</main>"], names: [:nodes]}
  """
  @spec new([binary | name]) :: t
  def new(parts) do
    {statics, names} = Enum.split_with(parts, &is_binary/1)
    true = length(statics) == length(names) + 1
    %__MODULE__{statics: statics, names: names}
  end

  @doc "The page as HTML: what a browser shows before its client has joined."
  @spec html(t, %{name => Panel.t()}) :: iodata
  def html(%__MODULE__{} = layout, panels) do
    [first | rest] = layout.statics

    [
      first
      | Enum.zip_with(layout.names, rest, fn name, static -> [panels[name].html, static] end)
    ]
  end

  @doc "The whole tree, as the `rendered` of the answer to a join."
  @spec tree(t, %{name => Panel.t()}) :: json :: iodata
  def tree(%__MODULE__{} = layout, panels) do
    [~s({"s":), Koma.JSON.encode!(layout.statics), ?,, fields(layout, panels), ?}]
  end

  @doc """
  The panels that changed, as the payload of a `diff`. The client tells the page's script, as the event
  `phx:seen`, when it has put them in.
  """
  @spec diff(t, %{name => Panel.t()}) :: json :: iodata
  def diff(%__MODULE__{} = layout, changes) do
    fields = for {name, panel} <- changes, do: {position(layout, name), panel.json}
    [?{, fields |> Enum.sort() |> join(), ~s(,"e":[["seen",{}]]})]
  end

  defp position(layout, name), do: Enum.find_index(layout.names, &(&1 == name))

  defp fields(layout, panels) do
    layout.names
    |> Enum.with_index(fn name, position -> {position, panels[name].json} end)
    |> join()
  end

  defp join(fields) do
    Enum.map_intersperse(fields, ?,, fn {position, json} ->
      [?", Integer.to_string(position), ~s(":), json]
    end)
  end
end
