defmodule Koma.Options.Page do
  @moduledoc "Writes the tables of docs/configuration.md from `Koma.Options.Table`."

  alias Koma.Options.{Environment, Table}

  @doc "A table for each group of options, in Markdown."
  @spec to_markdown() :: String.t()
  def to_markdown do
    Enum.map_join(Table.groups(), "\n", fn {heading, options} ->
      rows = Enum.map_join(options, &row/1)
      "### #{heading}\n\n| variable | value | default | |\n|---|---|---|---|\n#{rows}"
    end)
  end

  # What runs is set by three variables, which the page explains apart.
  defp row({:models, _entry}), do: ""

  defp row({key, {kind, default, sentence}}) do
    cells = ["`#{Table.variable(key)}`", Environment.allowed(kind), default(default), sentence]
    "| #{Enum.join(cells, " | ")} |\n"
  end

  defp default(nil), do: "–"
  defp default([]), do: "–"
  defp default(true), do: "`on`"
  defp default(false), do: "`off`"
  defp default({low, high}), do: "`#{low}-#{high}`"
  defp default([_ | _] = names), do: "`#{Enum.join(names, ",")}`"
  defp default(value), do: "`#{value}`"
end
