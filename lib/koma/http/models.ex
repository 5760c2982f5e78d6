defmodule Koma.HTTP.Models do
  @moduledoc "`/v1/models`: what can be asked for, with the schemas of parameters."

  @behaviour Koma.HTTP.Handler

  alias Koma.HTTP.Reply

  @impl true
  def methods(:collection), do: ["GET", "HEAD"]

  @impl true
  def handle(:collection, _get, req, _caller), do: {:ok, Reply.json(req, 200, Koma.models())}
end
