defmodule Koma.HTTP.Auth do
  @moduledoc """
  Who asks: the one place where a request, WebSocket handshakes included, becomes a `Koma.Caller`.

  API keys cannot be configured yet, so every caller is anonymous and what a client sends as a key
  (`api_key` in the query, `x-api-key`, `x-auth-token`, a bearer token) is not looked at.
  """

  alias Koma.{Caller, Error}

  @doc "The caller of a request."
  @spec caller(:cowboy_req.req()) :: {:ok, Caller.t()} | {:error, Error.t()}
  def caller(_req), do: {:ok, %Caller{key: nil}}

  @doc """
  Refuses pages of other sites: browsers let any page open a WebSocket or send a form here, and tell its origin.
  Requests without an origin come from other programs.
  """
  @spec check_origin(:cowboy_req.req()) :: :ok | {:error, Error.t()}
  def check_origin(req) do
    origin = :cowboy_req.header("origin", req)

    if origin == :undefined or same?(origin, :cowboy_req.header("host", req, "")) do
      :ok
    else
      message = "Pages of other origins may not use this server."
      {:error, Error.new("forbidden", message, field: "origin", value: origin)}
    end
  end

  # The scheme may differ behind a proxy that ends TLS; host and port are what the page was asked from.
  defp same?(origin, host), do: String.replace(origin, ~r{^https?://}, "") == host
end
