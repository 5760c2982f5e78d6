defmodule Koma.Live.Session do
  @moduledoc """
  A browser that was let in: a signed cookie, which its scripts cannot read and which it sends to
  pages of this server only (`HttpOnly`, `SameSite=Strict`).

  It holds a random id, to which the CSRF token of every page belongs, and who the browser is: the
  `Koma.Caller` of the key that was shown at the login, without the key. Whether that is still an
  operator is asked each time.
  """

  alias Koma.Access.{Connections, Revocations}
  alias Koma.{Access, Caller, Error}
  alias Koma.Live.Token

  @cookie "koma_session"
  @max_age_s 7 * 24 * 3600
  @id_bytes 16

  @enforce_keys [:id]
  defstruct [:id, :caller]

  @type t :: %__MODULE__{id: String.t(), caller: Caller.t() | nil}

  @doc "The session of a request: that of its cookie, or a new one."
  @spec of(:cowboy_req.req()) :: t
  def of(req) do
    with {_name, cookie} <- List.keyfind(:cowboy_req.parse_cookies(req), @cookie, 0),
         {:ok, %{"id" => id} = value} <- Token.verify(:cookie, cookie, @max_age_s) do
      session = with_caller(id, caller(value["caller"]))
      # The connection of who has logged in is kept before those of guests.
      if session.caller != nil, do: Connections.known(req.pid)
      session
    else
      _none_or_forged -> %__MODULE__{id: random()}
    end
  end

  defp with_caller(id, nil), do: %__MODULE__{id: id}

  # One that was ended is nobody's: the browser gets another.
  defp with_caller(id, caller) do
    if Revocations.revoked?(id),
      do: %__MODULE__{id: random()},
      else: %__MODULE__{id: id, caller: %Caller{caller | session: id}}
  end

  @doc "The operator of the session: who logged in or, where no key is asked for, anyone."
  @spec operator(t) :: {:ok, Caller.t()} | {:error, Error.t()}
  def operator(%__MODULE__{caller: caller}) do
    with {:ok, caller} <- known(caller),
         :ok <- Access.check_operator(caller),
         do: {:ok, caller}
  end

  defp known(nil) do
    if Access.keys?(), do: {:error, unknown()}, else: Access.authenticate(nil)
  end

  # Its key may have been replaced since, or have lost a role.
  defp known(caller), do: if(Access.valid?(caller), do: {:ok, caller}, else: {:error, unknown()})

  defp unknown, do: Error.new("unauthorized", "Nobody has logged in.")

  @doc "A session of its own for somebody who has logged in."
  @spec login(Caller.t()) :: t
  def login(%Caller{} = caller), do: with_caller(random(), caller)

  @doc "Ends a session: its cookie lets nobody in any more, and its live pages are closed."
  @spec logout(t) :: :ok
  def logout(%__MODULE__{caller: nil}), do: :ok

  def logout(%__MODULE__{id: id}) do
    Revocations.revoke(id, System.system_time(:second) + @max_age_s)
  end

  @doc "Has the answer to a request set the cookie."
  @spec put(:cowboy_req.req(), t) :: :cowboy_req.req()
  def put(req, %__MODULE__{} = session) do
    cookie = Token.sign(:cookie, %{"id" => session.id, "caller" => stored(session.caller)})
    set(req, cookie, @max_age_s)
  end

  @doc "Has the answer to a request delete the cookie."
  @spec delete(:cowboy_req.req()) :: :cowboy_req.req()
  def delete(req), do: set(req, "", 0)

  @doc "What a page sends with whatever it does, so that no other page can do it."
  @spec csrf(t) :: String.t()
  def csrf(%__MODULE__{id: id}), do: Token.proof(:csrf, id)

  @doc "Whether that came with a request of this session."
  @spec csrf?(t, term) :: boolean
  def csrf?(%__MODULE__{id: id}, token), do: Token.proven?(:csrf, id, token)

  @doc "What lets the live part of a page in: it is bound to the page's id and the session."
  @spec page(t, page_id :: String.t()) :: String.t()
  def page(%__MODULE__{id: id}, page_id), do: Token.sign(:page, %{"page" => page_id, "id" => id})

  @doc "Whether it does."
  @spec page?(t, page_id :: String.t(), term) :: boolean
  def page?(%__MODULE__{id: id}, page_id, token) do
    Token.verify(:page, token, @max_age_s) == {:ok, %{"page" => page_id, "id" => id}}
  end

  @doc "Characters that nobody guesses."
  @spec random() :: String.t()
  def random, do: @id_bytes |> :crypto.strong_rand_bytes() |> Base.url_encode64(padding: false)

  defp set(req, value, max_age) do
    options = %{
      path: "/",
      max_age: max_age,
      http_only: true,
      same_site: :strict,
      secure: secure?(req)
    }

    :cowboy_req.set_resp_cookie(@cookie, value, req, options)
  end

  # TLS ends in the proxy in front, if there is one.
  defp secure?(req) do
    :cowboy_req.scheme(req) == "https" or
      :cowboy_req.header("x-forwarded-proto", req, "http") == "https"
  end

  defp stored(nil), do: nil

  defp stored(%Caller{credential: credential} = caller) do
    %{
      "key" => caller.key,
      "roles" => caller.roles,
      "credential" => credential && Base.url_encode64(credential)
    }
  end

  # The signature says that it is what was stored.
  defp caller(%{"key" => key, "roles" => roles, "credential" => credential}) do
    %Caller{
      key: key,
      roles: Enum.map(roles, &String.to_existing_atom/1),
      credential: credential && Base.url_decode64!(credential)
    }
  end

  defp caller(_none), do: nil
end
