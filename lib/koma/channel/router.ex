defmodule Koma.Channel.Router do
  @moduledoc "Which channel serves a topic."

  @type argument :: nil | Koma.Follower.subject()

  @doc """
  The module and what it serves; `unknown_topic` for other names.

      iex> Koma.Channel.Router.route("jobs")
      {:ok, Koma.Channel.Jobs, nil}

      iex> Koma.Channel.Router.route("job:0f1e")
      {:ok, Koma.Channel.Events, {:job, "0f1e"}}
  """
  @spec route(String.t()) :: {:ok, module, argument} | {:error, Koma.Error.t()}
  def route("jobs"), do: {:ok, Koma.Channel.Jobs, nil}
  def route("job:" <> id) when id != "", do: {:ok, Koma.Channel.Events, {:job, id}}
  def route("pipeline:" <> id) when id != "", do: {:ok, Koma.Channel.Events, {:pipeline, id}}

  def route(topic) do
    message = "There is no topic of this name; topics are jobs, job:<id> and pipeline:<id>."
    {:error, Koma.Error.new("unknown_topic", message, field: "topic", value: topic)}
  end
end
