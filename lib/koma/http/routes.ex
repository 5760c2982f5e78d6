defmodule Koma.HTTP.Routes do
  @moduledoc "Paths to handlers: the one table."

  alias Koma.HTTP.{Artifacts, Handler, Health, Jobs, Metrics, Models, NotFound, Pipelines}

  @routes [
    {"/socket/websocket", Koma.Socket.Handler, :socket},
    {"/v1/artifacts", Handler, {Artifacts, :collection}},
    {"/v1/artifacts/:id", Handler, {Artifacts, :item}},
    {"/v1/jobs", Handler, {Jobs, :collection}},
    {"/v1/jobs/:id", Handler, {Jobs, :item}},
    {"/v1/jobs/:id/events", Handler, {Jobs, :events}},
    {"/v1/pipelines", Handler, {Pipelines, :collection}},
    {"/v1/pipelines/:id", Handler, {Pipelines, :item}},
    {"/v1/pipelines/:id/events", Handler, {Pipelines, :events}},
    {"/v1/models", Handler, {Models, :collection}},
    {"/health/live", Handler, {Health, :live}},
    {"/health/ready", Handler, {Health, :ready}},
    {"/metrics", Handler, {Metrics, :all}}
  ]

  @doc "The table in Cowboy's form; the web pages of `priv/static` where they exist."
  @spec dispatch() :: :cowboy_router.dispatch_rules()
  def dispatch do
    static = :koma |> Application.app_dir("priv/static") |> static()
    :cowboy_router.compile([{:_, @routes ++ static ++ [{:_, Handler, {NotFound, :any}}]}])
  end

  defp static(folder) do
    index = Path.join(folder, "index.html")
    pages = if File.regular?(index), do: [{"/", :cowboy_static, {:file, index}}], else: []

    files =
      if File.dir?(folder), do: [{"/static/[...]", :cowboy_static, {:dir, folder}}], else: []

    pages ++ files
  end
end
