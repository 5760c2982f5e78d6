defmodule Koma.HTTP.Reply do
  @moduledoc "Answers of the HTTP interface: JSON, and errors in their one shape."

  alias Koma.{Error, JSON}

  # Clients of OpenAI's try 408, 409, 429 and 500 to 599 again unless they are told not to. These
  # would only fail again: the job has used up its attempts, or the key what it may have.
  @final ~w(model_failed node_crashed node_hung peer_lost poison_job out_of_memory storage_full
            load_failed stage_failed provenance_failed conflict cancelled expired quota_exceeded)

  @json %{"content-type" => "application/json", "cache-control" => "no-store"}

  @doc "An answer with a JSON body."
  @spec json(:cowboy_req.req(), pos_integer, JSON.value(), map) :: :cowboy_req.req()
  def json(req, status, body, headers \\ %{}) do
    :cowboy_req.reply(status, Map.merge(secure(@json), headers), JSON.encode!(body), req)
  end

  @doc "`{\"error\": {code, message, …}}` with the status that errors.json gives the code."
  @spec error(:cowboy_req.req(), Error.t(), map) :: :cowboy_req.req()
  def error(req, %Error{} = error, headers \\ %{}) do
    error(req, Error.status(error.code), error, headers)
  end

  @doc "The same with another status."
  @spec error(:cowboy_req.req(), pos_integer, Error.t(), map) :: :cowboy_req.req()
  def error(req, status, error, headers) do
    json(req, status, %{"error" => Error.to_map(error)}, Map.merge(headers, headers(error)))
  end

  @doc "What the headers of an answer say of an error: when to try again, and whether to."
  @spec headers(Error.t()) :: map
  def headers(%Error{} = error) do
    Enum.reduce([retry_after(error), retry(error), about(error)], &Map.merge(&2, &1))
  end

  @doc "An error as a command of Cowboy's to a stream, after which the connection is closed."
  @spec closing(pos_integer, Error.t()) :: :cowboy_stream.resp_command()
  def closing(status, %Error{} = error) do
    headers = Map.put(secure(@json), "connection", "close")
    {:response, status, headers, JSON.encode!(%{"error" => Error.to_map(error)})}
  end

  @doc "Headers that every answer has: no guessing of types, no frames of other sites."
  @spec secure(map) :: map
  def secure(headers) do
    Map.merge(
      %{"x-content-type-options" => "nosniff", "x-frame-options" => "DENY"},
      headers
    )
  end

  # Nobody wants to read the rest of such a body.
  defp about(%Error{code: code}) when code in ["too_large", "request_timeout"] do
    %{"connection" => "close"}
  end

  # RFC 9110, 15.5.2 asks for it.
  defp about(%Error{code: "unauthorized"}), do: %{"www-authenticate" => "Bearer"}
  defp about(_error), do: %{}

  # Whole seconds, rounded up: a client that comes earlier only meets the same answer.
  defp retry_after(%Error{retry_after_ms: nil}), do: %{}

  defp retry_after(%Error{retry_after_ms: ms}) do
    %{
      "retry-after" => ms |> Kernel.+(999) |> div(1000) |> Integer.to_string(),
      "retry-after-ms" => Integer.to_string(ms)
    }
  end

  defp retry(%Error{code: code}) when code in @final, do: %{"x-should-retry" => "false"}
  defp retry(_error), do: %{}
end
