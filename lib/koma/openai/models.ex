defmodule Koma.OpenAI.Models do
  @moduledoc """
  `/v1/models`: what can be asked for, as OpenAI lists models, each with the schemas of its tasks.
  """

  @behaviour Koma.HTTP.Handler

  alias Koma.Error
  alias Koma.HTTP.Reply
  alias Koma.OpenAI.Refusal

  @impl true
  def methods(_action), do: ["GET", "HEAD"]

  @impl true
  defdelegate refuse(req, error, headers), to: Refusal, as: :shared

  @impl true
  def handle(:collection, _get, req, _caller) do
    {:ok, Reply.json(req, 200, %{"object" => "list", "data" => list()})}
  end

  def handle(:item, _get, req, _caller) do
    id = :cowboy_req.binding(:id, req)
    list = list()

    case Enum.find(list, &(&1["id"] == id)) do
      nil -> {:error, unknown(id, Enum.map(list, & &1["id"]))}
      model -> {:ok, Reply.json(req, 200, model)}
    end
  end

  defp list do
    created = since()

    for model <- Koma.models() do
      Map.merge(model, %{
        "id" => model["family"],
        "object" => "model",
        "created" => created,
        "owned_by" => "koma"
      })
    end
  end

  # When this server started, in seconds since 1970: no model here is older to its clients.
  defp since do
    :erlang.convert_time_unit(
      :erlang.system_info(:start_time) + :erlang.time_offset(),
      :native,
      :second
    )
  end

  defp unknown(id, known) do
    message = "There is no model #{Koma.Shown.text(id)}; known are #{Enum.join(known, ", ")}"
    Error.new("unknown_model", message, field: "model", value: id, bound: known)
  end
end
