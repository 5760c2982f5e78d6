defmodule Koma.HTTP.Health do
  @moduledoc """
  `/health/live`: this process answers. `/health/ready`: every model node that is configured
  can take work; else 503, with those missing for callers who have a key where keys are asked for.
  """

  @behaviour Koma.HTTP.Handler

  alias Koma.Access
  alias Koma.HTTP.Reply

  @impl true
  def methods(_action), do: ["GET", "HEAD"]

  @impl true
  def access(_action), do: :public

  @impl true
  def handle(:live, _get, req, _caller), do: {:ok, Reply.json(req, 200, %{"status" => "ok"})}

  def handle(:ready, _get, req, caller) do
    case Koma.ready() do
      :ok ->
        {:ok, Reply.json(req, 200, %{"status" => "ok"})}

      {:error, missing} ->
        told = if Access.known?(caller), do: %{"missing" => missing}, else: %{}
        {:ok, Reply.json(req, 503, Map.put(told, "status", "unavailable"))}
    end
  end
end
