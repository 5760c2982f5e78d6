defmodule Koma.HTTP.Health do
  @moduledoc """
  `/health/live`: this process answers. `/health/ready`: every model node that is configured
  can take work; else 503 with those missing.
  """

  @behaviour Koma.HTTP.Handler

  alias Koma.HTTP.Reply

  @impl true
  def methods(_action), do: ["GET", "HEAD"]

  @impl true
  def handle(:live, _get, req, _caller), do: {:ok, Reply.json(req, 200, %{"status" => "ok"})}

  def handle(:ready, _get, req, _caller) do
    case Koma.ready() do
      :ok ->
        {:ok, Reply.json(req, 200, %{"status" => "ok"})}

      {:error, missing} ->
        {:ok, Reply.json(req, 503, %{"status" => "unavailable", "missing" => missing})}
    end
  end
end
