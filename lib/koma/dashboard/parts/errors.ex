defmodule Koma.Dashboard.Parts.Errors do
  @moduledoc "The latest errors: failed jobs, lost attempts, deaths of model nodes."
  @behaviour Koma.Dashboard.Part

  require EEx

  alias Koma.Dashboard.{Errors, Filter, Format}
  alias Koma.Store

  @shown 30
  @kinds %{job: "job failed", attempt: "attempt lost", model_node: "model node died"}

  EEx.function_from_file(
    :defp,
    :errors,
    Path.join(__DIR__, "errors.html.eex"),
    [:errors],
    engine: Koma.Live.HTML,
    trim: true
  )

  @impl true
  def read(nil), do: Errors.latest() |> Enum.take(@shown)

  @impl true
  def html(errors), do: errors |> Enum.map(&Map.put(&1, :message, message(&1))) |> errors()

  defp message(%{kind: :job, name: id}) do
    case Store.Jobs.fields(id, [:error]) do
      {:ok, %{error: %{"message" => message}}} -> message
      _forgotten -> nil
    end
  end

  defp message(%{message: message}), do: message

  defp kind(kind), do: Map.fetch!(@kinds, kind)
  defp job?(error), do: error.kind in [:job, :attempt]
  defp url(id), do: Filter.url(%Filter{}, id)
end
