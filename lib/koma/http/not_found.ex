defmodule Koma.HTTP.NotFound do
  @moduledoc "Every path that no route has."

  @behaviour Koma.HTTP.Handler

  @impl true
  def methods(:any), do: ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

  @impl true
  def access(:any), do: :public

  @impl true
  def handle(:any, _method, req, _caller) do
    message = "There is no route of this path."
    details = [field: "path", value: :cowboy_req.path(req)]
    {:error, Koma.Error.new("not_found", message, details)}
  end
end
