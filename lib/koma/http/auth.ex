defmodule Koma.HTTP.Auth do
  @moduledoc """
  Who asks: the one place where a request, WebSocket handshakes included, becomes a `Koma.Caller`.

  A key comes as a bearer token, as `x-api-key` or `x-auth-token`, in the subprotocol that the
  official clients make of their `authToken`, or as `api_key` in the query; the first of these
  counts. Cookies are not looked at, so that no page can use the key of somebody's browser.
  """

  alias Koma.Access.{Connections, Policy}
  alias Koma.{Access, Caller, Error, Options}
  alias Koma.HTTP.Origin

  # Phoenix's clients: despite its name in the standard alphabet, without padding.
  @token_protocol "base64url.bearer.phx."
  @headers ~w(authorization x-api-key x-auth-token sec-websocket-protocol cookie)

  @doc "The caller of a request."
  @spec caller(:cowboy_req.req()) :: {:ok, Caller.t()} | {:error, Error.t()}
  def caller(req) do
    with :ok <- check_host(req),
         {:ok, caller} <- req |> secret() |> Access.authenticate(),
         do: {:ok, known(caller, req)}
  end

  # The connection of who has shown a key is kept before those of guests.
  defp known(%Caller{key: nil} = caller, _req), do: caller

  defp known(caller, req) do
    :ok = Connections.known(req.pid)
    caller
  end

  @doc "The caller of a request to what is for anybody: known, or without key and roles."
  @spec guest(:cowboy_req.req()) :: Caller.t()
  def guest(req) do
    secret = secret(req)

    with true <- secret != nil or not Access.keys?(),
         {:ok, caller} <- Access.authenticate(secret) do
      known(caller, req)
    else
      _unknown -> %Caller{}
    end
  end

  @doc """
  The request without what it says of keys and, but for the headers `kept`, cookies: what comes
  later cannot tell it to a log.
  """
  @spec redact(:cowboy_req.req(), kept :: [String.t()]) :: :cowboy_req.req()
  def redact(req, kept \\ []) do
    query = for {name, _value} = pair <- :cowboy_req.parse_qs(req), name != "api_key", do: pair
    %{req | headers: Map.drop(req.headers, @headers -- kept), qs: :cow_qs.qs(query)}
  end

  defp secret(req) do
    bearer(:cowboy_req.header("authorization", req, "")) ||
      :cowboy_req.header("x-api-key", req, nil) ||
      :cowboy_req.header("x-auth-token", req, nil) ||
      protocol(:cowboy_req.parse_header("sec-websocket-protocol", req, [])) ||
      query(req)
  end

  # The name of the scheme in any case (RFC 9110, 11.1).
  defp bearer(header) do
    case String.split(header, " ", parts: 2, trim: true) do
      [scheme, token] -> if String.downcase(scheme) == "bearer", do: String.trim(token)
      _other -> nil
    end
  end

  defp protocol(offered) do
    Enum.find_value(offered, fn protocol ->
      with @token_protocol <> token <- protocol,
           {:ok, secret} <- Base.decode64(token, padding: false) do
        secret
      else
        _other -> nil
      end
    end)
  end

  defp query(req) do
    with {"api_key", secret} when is_binary(secret) <-
           List.keyfind(:cowboy_req.parse_qs(req), "api_key", 0),
         do: secret,
         else: (_none -> nil)
  end

  @doc """
  Refuses pages of other sites: browsers let any page open a WebSocket or send a form here, and tell
  its origin. Requests without an origin come from other programs.
  """
  @spec check_origin(:cowboy_req.req()) :: :ok | {:error, Error.t()}
  def check_origin(req) do
    origin = :cowboy_req.header("origin", req)
    host = :cowboy_req.header("host", req, "")

    if origin == :undefined or Origin.allowed?(origin, host, Options.get().origins) do
      check_host(req)
    else
      message = "Pages of other origins may not use this server."
      {:error, Error.new("forbidden", message, field: "origin", value: origin)}
    end
  end

  @doc """
  Refuses requests by a name that is not this machine's own, where no keys are asked for and it
  listens on loopback (`Koma.HTTP.Origin.local?/2`). Whoever shows a key was given one.
  """
  @spec check_host(:cowboy_req.req()) :: :ok | {:error, Error.t()}
  def check_host(req) do
    %Options{bind: bind, origins: origins} = Options.get()
    host = :cowboy_req.header("host", req)

    if host == :undefined or Access.keys?() or not Policy.loopback?(bind) or
         Origin.local?(host, origins) do
      :ok
    else
      message =
        "A server on loopback that asks for no API key is called localhost; " <>
          "other names of it have to be in KOMA_ORIGINS."

      {:error, Error.new("forbidden", message, field: "host", value: host)}
    end
  end
end
