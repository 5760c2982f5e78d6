defmodule Koma.HTTP.Count do
  @moduledoc "`/v1/count`: how much of a prompt its model reads, for whoever writes one."

  @behaviour Koma.HTTP.Handler

  alias Koma.HTTP.{Body, Reply}

  # Two prompts of the greatest length, in whatever script, fit.
  @max_bytes 64 * 1024

  @impl true
  def methods(:collection), do: ["POST"]

  @impl true
  def handle(:collection, "POST", req, _caller) do
    with :ok <- Body.check_length(req, @max_bytes),
         {:ok, request, req} <- Body.json_object(req),
         {:ok, prompts} <- Koma.count(request),
         do: {:ok, Reply.json(req, 200, prompts)}
  end
end
