defmodule Koma.HTTP.CORS do
  @moduledoc """
  Lets the pages of the origins that an operator named (`KOMA_ORIGINS`) read answers (WHATWG Fetch, 3.2). All
  other pages get no such headers, upon which browsers keep the answers from them. Cookies are not
  shared with other origins.
  """

  alias Koma.Options

  @read "location, retry-after, retry-after-ms, x-should-retry, x-request-id, openai-poll-after-ms, " <>
          "etag, accept-ranges, content-range, content-disposition"
  @sent "authorization, x-api-key, x-auth-token, content-type, x-content-sha256, last-event-id, " <>
          "range, if-range, if-none-match"
  @max_age_s "600"

  @doc "The request whose answer says which other origin may read it, if any may."
  @spec allow(:cowboy_req.req()) :: :cowboy_req.req()
  def allow(req) do
    case {Options.get().origins, :cowboy_req.header("origin", req)} do
      {[], _origin} -> req
      {origins, origin} -> :cowboy_req.set_resp_headers(headers(origin, origin in origins), req)
    end
  end

  defp headers(_origin, false), do: %{"vary" => "origin"}

  defp headers(origin, true) do
    %{
      "access-control-allow-origin" => origin,
      "access-control-expose-headers" => @read,
      "vary" => "origin"
    }
  end

  @doc "Whether a browser asks, for a page of such an origin, what it may send."
  @spec preflight?(:cowboy_req.req()) :: boolean
  def preflight?(req) do
    :cowboy_req.method(req) == "OPTIONS" and
      :cowboy_req.header("access-control-request-method", req) != :undefined and
      :cowboy_req.header("origin", req) in Options.get().origins
  end

  @doc "The answer: the methods of the route, and the headers that routes look at."
  @spec answer(:cowboy_req.req(), methods :: [String.t()]) :: :cowboy_req.req()
  def answer(req, methods) do
    headers = %{
      "access-control-allow-methods" => Enum.join(methods, ", "),
      "access-control-allow-headers" => @sent,
      "access-control-max-age" => @max_age_s
    }

    :cowboy_req.reply(204, headers, req)
  end
end
