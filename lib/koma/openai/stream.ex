defmodule Koma.OpenAI.Stream do
  @moduledoc "An answer that goes on as server-sent events, in the forms that OpenAI's clients read."

  alias Koma.HTTP.{Reply, SSE}
  alias Koma.{Error, JSON}
  alias Koma.OpenAI.{Refusal, Run}

  @doc "Begins the answer to the request of a job."
  @spec begin(:cowboy_req.req(), Run.t()) :: :cowboy_req.req()
  def begin(req, %Run{id: id}) do
    # The end is that of the job; a client that has gone is noticed by its connection.
    :ok = :cowboy_req.cast({:set_options, %{idle_timeout: :infinity}}, req)

    headers = %{
      "content-type" => "text/event-stream",
      "cache-control" => "no-store",
      "x-request-id" => id
    }

    :cowboy_req.stream_reply(200, Reply.secure(headers), req)
  end

  @doc "Sends an event whose name is its `type`."
  @spec event(:cowboy_req.req(), map) :: :ok
  def event(req, %{"type" => type} = event),
    do: send_text(req, SSE.event(type, JSON.encode!(event)))

  @doc "Sends an event without a name, as chunks of chat completions are."
  @spec data(:cowboy_req.req(), map) :: :ok
  def data(req, chunk), do: send_text(req, ["data: ", JSON.encode!(chunk), "\n\n"])

  @doc "Sends the mark that ends a stream of chunks."
  @spec done(:cowboy_req.req()) :: :ok
  def done(req), do: send_text(req, "data: [DONE]\n\n")

  @doc "Sends an error: OpenAI's clients raise it, and nothing comes after it."
  @spec error(:cowboy_req.req(), Error.t()) :: :ok
  def error(req, error), do: data(req, Refusal.body(error))

  @doc "Sends a line that clients skip, so that no proxy takes the connection for dead."
  @spec keepalive(:cowboy_req.req()) :: :ok
  def keepalive(req), do: send_text(req, SSE.keepalive())

  @doc "Ends the answer."
  @spec close(:cowboy_req.req()) :: :cowboy_req.req()
  def close(req) do
    :ok = :cowboy_req.stream_body("", :fin, req)
    req
  end

  defp send_text(req, text), do: :ok = :cowboy_req.stream_body(text, :nofin, req)
end
