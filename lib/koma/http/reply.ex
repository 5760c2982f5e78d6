defmodule Koma.HTTP.Reply do
  @moduledoc "Answers of the HTTP interface: JSON, and errors in their one shape."

  alias Koma.{Error, JSON}

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
    headers = Enum.reduce([retry_after(error), about(error)], headers, &Map.merge(&2, &1))
    json(req, status, %{"error" => Error.to_map(error)}, headers)
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

  # Clients of OpenAI's try a 409 again unless they are told not to.
  defp about(%Error{code: "conflict"}), do: %{"x-should-retry" => "false"}

  # RFC 9110, 15.5.2 asks for it.
  defp about(%Error{code: "unauthorized"}), do: %{"www-authenticate" => "Bearer"}
  defp about(_error), do: %{}

  # Whole seconds, rounded up: a client that comes earlier only meets the same answer.
  defp retry_after(%Error{retry_after_ms: nil}), do: %{}

  defp retry_after(%Error{retry_after_ms: ms}) do
    %{"retry-after" => ms |> Kernel.+(999) |> div(1000) |> Integer.to_string()}
  end
end
