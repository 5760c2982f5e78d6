defmodule Koma.HTTP.Pipelines do
  @moduledoc "`/v1/pipelines`: submit, read, cancel, follow."

  @behaviour Koma.HTTP.Handler

  alias Koma.HTTP.{Body, EventStream, Reply}
  alias Koma.Pipeline

  @impl true
  def methods(:collection), do: ["POST"]
  def methods(:item), do: ["GET", "HEAD", "DELETE"]
  def methods(:events), do: ["GET"]

  @impl true
  def handle(:collection, "POST", req, caller) do
    with {:ok, request, req} <- Body.work(req),
         {:ok, pipeline} <- Pipeline.submit(request, caller) do
      headers = %{"location" => "/v1/pipelines/#{pipeline["id"]}"}
      {:ok, Reply.json(req, 202, pipeline, headers)}
    end
  end

  def handle(:item, "DELETE", req, caller) do
    with :ok <- Pipeline.cancel(id(req), caller), do: read(req, caller)
  end

  def handle(:item, _get, req, caller), do: read(req, caller)
  def handle(:events, "GET", req, caller), do: EventStream.serve(:pipeline, req, caller)

  defp read(req, caller) do
    with {:ok, pipeline} <- Pipeline.get(id(req), caller) do
      {:ok, Reply.json(req, 200, pipeline)}
    end
  end

  defp id(req), do: :cowboy_req.binding(:id, req)
end
