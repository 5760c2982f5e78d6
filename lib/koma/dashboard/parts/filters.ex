defmodule Koma.Dashboard.Parts.Filters do
  @moduledoc "The form that chooses which jobs are listed; without scripts it loads the page anew."
  @behaviour Koma.Dashboard.Part

  require EEx

  alias Koma.Dashboard.Filter
  alias Koma.{Queue, Store}

  EEx.function_from_file(
    :defp,
    :form,
    Path.join(__DIR__, "filters.html.eex"),
    [:filter, :families, :keys],
    engine: Koma.Live.HTML,
    trim: true
  )

  @seen 200

  @impl true
  def read(%Filter{} = filter) do
    families = Enum.sort(Queue.families())
    %{filter: filter, families: with_chosen(families, filter.family), keys: keys(filter)}
  end

  @impl true
  def html(%{filter: filter, families: families, keys: keys}), do: form(filter, families, keys)

  # Of the jobs that are live, and of the latest that have ended.
  defp keys(filter) do
    live = for {id, _pid} <- Koma.Job.Processes.all(), do: id
    ended = Enum.take(Store.Jobs.finished(), @seen)

    known =
      for id <- live ++ ended,
          {:ok, %{key: key}} <- [Store.Jobs.fields(id, [:key])],
          do: key || "-"

    known |> Enum.uniq() |> Enum.sort() |> with_chosen(filter.key)
  end

  # What is chosen stays in the list though there is none of it now.
  defp with_chosen(list, chosen) when chosen == nil, do: list
  defp with_chosen(list, chosen), do: if(chosen in list, do: list, else: list ++ [chosen])
end
