defmodule Koma.Dashboard.Parts.Cache do
  @moduledoc "The cache: how often it answered, and how much it holds."
  @behaviour Koma.Dashboard.Part

  require EEx

  alias Koma.Cache
  alias Koma.Dashboard.Format
  alias Koma.Metrics.Table

  @cache_ms 500

  EEx.function_from_file(
    :defp,
    :cache,
    Path.join(__DIR__, "cache.html.eex"),
    [:requests, :size],
    engine: Koma.Live.HTML,
    trim: true
  )

  @impl true
  def read(nil) do
    counted = Table.read() |> Map.get(:koma_cache_requests_total, []) |> Map.new()
    requests = for name <- ~w(hit miss join), into: %{}, do: {name, Map.get(counted, [name], 0)}
    %{requests: requests, size: Cache.size(@cache_ms)}
  end

  @impl true
  def html(%{requests: requests, size: size}), do: cache(requests, size)
end
