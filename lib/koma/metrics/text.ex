defmodule Koma.Metrics.Text do
  @moduledoc """
  The text format of Prometheus, version 0.0.4: pure.

  https://prometheus.io/docs/instrumenting/exposition_formats/
  """

  alias Koma.Metrics.Definitions
  alias Koma.Metrics.Definitions.Definition
  alias Koma.Metrics.Table

  @doc "The content type of an answer in this format."
  @spec content_type() :: String.t()
  def content_type, do: "text/plain; version=0.0.4; charset=utf-8"

  @doc """
  A metric with all its values. One without labels that was never counted is 0; of those with
  labels only those that were seen are told.
  """
  @spec family(Definition.t(), [{Table.labels(), number | Table.histogram()}]) :: iodata
  def family(%Definition{type: :counter, labels: []} = definition, []) do
    family(definition, [{[], 0}])
  end

  def family(%Definition{name: name} = definition, values) do
    name = Atom.to_string(name)

    [
      ["# HELP ", name, " ", escape_help(definition.help), "\n"],
      ["# TYPE ", name, " ", Atom.to_string(definition.type), "\n"],
      for({labels, value} <- values, do: samples(definition, name, labels, value))
    ]
  end

  defp samples(definition, name, values, {counts, sum}) do
    labels = Enum.zip(definition.labels, values)
    bounds = Enum.map(definition.buckets, &number/1) ++ ["+Inf"]
    # The last is that of everything, beyond all bounds.
    running = counts |> Enum.scan(&+/2) |> Enum.take_every(Definitions.told_every())

    [
      for(
        {bound, count} <- Enum.zip(bounds, running),
        do: sample([name, "_bucket"], labels ++ [le: bound], count)
      ),
      sample([name, "_sum"], labels, sum),
      sample([name, "_count"], labels, List.last(running))
    ]
  end

  defp samples(definition, name, values, number) do
    sample(name, Enum.zip(definition.labels, values), number)
  end

  defp sample(name, labels, value), do: [name, labels(labels), " ", number(value), "\n"]

  defp labels([]), do: []

  defp labels(labels) do
    pairs = for {key, value} <- labels, do: [Atom.to_string(key), "=\"", escape(value), "\""]
    ["{", Enum.intersperse(pairs, ","), "}"]
  end

  defp number(n) when is_integer(n), do: Integer.to_string(n)
  # The shortest text that is the same number.
  defp number(x) when is_float(x), do: Float.to_string(x)

  defp escape(value) do
    value |> escape_help() |> String.replace("\"", "\\\"")
  end

  defp escape_help(text) do
    text |> String.replace("\\", "\\\\") |> String.replace("\n", "\\n")
  end
end
