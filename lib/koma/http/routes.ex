defmodule Koma.HTTP.Routes do
  @moduledoc "Paths to handlers: the one table."

  alias Koma.HTTP.{Artifacts, Handler, Health, Jobs, Metrics, Models, NotFound, Pipelines}
  alias Koma.HTTP.{Static, Studio}

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
    {"/metrics", Handler, {Metrics, :all}},
    {"/", Handler, {Studio, :page}},
    {"/static/[...]", Static, Static.files()}
  ]

  @doc "The table in Cowboy's form."
  @spec dispatch() :: :cowboy_router.dispatch_rules()
  def dispatch, do: :cowboy_router.compile([{:_, @routes ++ [{:_, Handler, {NotFound, :any}}]}])
end
