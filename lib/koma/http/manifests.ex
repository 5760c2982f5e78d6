defmodule Koma.HTTP.Manifests do
  @moduledoc """
  `/v1/manifests/:id`: the signed files whose pixels bear the mark with this id.

  The mark outlives what strips a signed statement from a file; this is the way back to the statement.
  """

  @behaviour Koma.HTTP.Handler

  alias Koma.{Error, Provenance, Shown}
  alias Koma.HTTP.Reply

  @impl true
  def methods(:item), do: ["GET", "HEAD"]

  @impl true
  def handle(:item, _get, req, caller) do
    id = :cowboy_req.binding(:id, req)

    case Provenance.marked(id, caller) do
      [] ->
        message = "No output of yours that is still kept bears the mark #{Shown.text(id)}"
        {:error, Error.new("not_found", message, field: "id", value: id)}

      matches ->
        {:ok, Reply.json(req, 200, %{"id" => id, "matches" => matches})}
    end
  end
end
