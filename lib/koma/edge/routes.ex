defmodule Koma.Edge.Routes do
  @moduledoc "Paths to handlers: the one table."

  alias Koma.HTTP.{
    Admin,
    Artifacts,
    Count,
    Dashboard,
    Handler,
    Health,
    Jobs,
    Manifests,
    Metrics,
    NotFound,
    Pipelines
  }

  alias Koma.HTTP.{Static, Studio, Verify}
  alias Koma.OpenAI

  @routes [
    {"/socket/websocket", Koma.Socket.Handler, :socket},
    {"/live/websocket", Koma.Socket.Handler, {:live, Koma.Dashboard.View}},
    {"/v1/artifacts", Handler, {Artifacts, :collection}},
    {"/v1/artifacts/:id", Handler, {Artifacts, :item}},
    {"/v1/jobs", Handler, {Jobs, :collection}},
    {"/v1/jobs/:id", Handler, {Jobs, :item}},
    {"/v1/jobs/:id/events", Handler, {Jobs, :events}},
    {"/v1/count", Handler, {Count, :collection}},
    {"/v1/pipelines", Handler, {Pipelines, :collection}},
    {"/v1/pipelines/:id", Handler, {Pipelines, :item}},
    {"/v1/pipelines/:id/events", Handler, {Pipelines, :events}},
    {"/v1/manifests/:id", Handler, {Manifests, :item}},
    {"/v1/verify", Handler, {Verify, :collection}},
    {"/v1/models", Handler, {OpenAI.Models, :collection}},
    {"/v1/models/:id", Handler, {OpenAI.Models, :item}},
    {"/v1/images/generations", Handler, {OpenAI.Images, :generations}},
    {"/v1/chat/completions", Handler, {OpenAI.Chat, :completions}},
    {"/v1/responses", Handler, {OpenAI.Responses, :create}},
    {"/v1/videos", Handler, {OpenAI.Videos, :collection}},
    {"/v1/videos/:id", Handler, {OpenAI.Videos, :item}},
    {"/v1/videos/:id/content", Handler, {OpenAI.Videos, :content}},
    {"/v1/images/edits", Handler, {OpenAI.Images, :edits}},
    {"/v1/admin/nodes", Handler, {Admin, :nodes}},
    {"/v1/admin/nodes/:name/:order", Handler, {Admin, :node}},
    {"/v1/admin/queues", Handler, {Admin, :queues}},
    {"/v1/admin/queues/:family/:order", Handler, {Admin, :queue}},
    {"/v1/admin/jobs/:id", Handler, {Admin, :job}},
    {"/health/live", Handler, {Health, :live}},
    {"/health/ready", Handler, {Health, :ready}},
    {"/metrics", Handler, {Metrics, :all}},
    {"/", Handler, {Studio, :page}},
    {"/dashboard", Handler, {Dashboard, :page}},
    {"/dashboard/login", Handler, {Dashboard, :login}},
    {"/dashboard/logout", Handler, {Dashboard, :logout}},
    {"/static/[...]", Static, Static.files()}
  ]

  @doc "The table in Cowboy's form."
  @spec dispatch() :: :cowboy_router.dispatch_rules()
  def dispatch, do: :cowboy_router.compile([{:_, @routes ++ [{:_, Handler, {NotFound, :any}}]}])
end
