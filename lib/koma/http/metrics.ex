defmodule Koma.HTTP.Metrics do
  @moduledoc "`/metrics`: what an operator watches, in the text format of Prometheus."

  @behaviour Koma.HTTP.Handler

  alias Koma.HTTP.Reply
  alias Koma.Metrics
  alias Koma.Metrics.Text

  @impl true
  def methods(:all), do: ["GET", "HEAD"]

  @impl true
  def access(:all), do: :metrics

  @impl true
  def handle(:all, _get, req, _caller) do
    headers = %{"content-type" => Text.content_type(), "cache-control" => "no-store"}
    {:ok, :cowboy_req.reply(200, Reply.secure(headers), Metrics.scrape(), req)}
  end
end
