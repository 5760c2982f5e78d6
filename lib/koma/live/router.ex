defmodule Koma.Live.Router do
  @moduledoc "The topics of `/live/websocket`: `lv:<id of a page>`, all served by `Koma.Live.Channel`."

  alias Koma.Live.{Channel, Session}

  @type argument :: {page_id :: String.t(), Session.t(), view :: module}

  @doc "The module of a topic, and what it needs to know; `unknown_topic` for other names."
  @spec route(String.t(), Session.t(), view :: module) ::
          {:ok, module, argument} | {:error, Koma.Error.t()}
  def route("lv:" <> id, session, view) when id != "", do: {:ok, Channel, {id, session, view}}

  def route(topic, _session, _view) do
    message = "There is no topic of this name; the topics of pages are lv:<id>."
    {:error, Koma.Error.new("unknown_topic", message, field: "topic", value: topic)}
  end
end
