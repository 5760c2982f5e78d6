defmodule Koma.HTTP.Dashboard do
  @moduledoc """
  `/dashboard`: the operators' page, and how they get in: `/dashboard/login` with the key of an operator,
  where keys are configured. The page goes on live over `/live/websocket` (`Koma.Live.Channel`).
  """

  @behaviour Koma.HTTP.Handler

  require EEx

  alias Koma.Dashboard.View
  alias Koma.{Access, Error}
  alias Koma.HTTP.{Page, Reply}
  alias Koma.Live.{Layout, Session}

  @max_form_bytes 16 * 1024

  EEx.function_from_file(
    :defp,
    :page,
    Path.join(__DIR__, "dashboard.html.eex"),
    [:csrf, :id, :session, :key, :body],
    engine: Koma.Live.HTML,
    trim: true
  )

  EEx.function_from_file(
    :defp,
    :login,
    Path.join(__DIR__, "login.html.eex"),
    [:csrf, :error],
    engine: Koma.Live.HTML,
    trim: true
  )

  @impl true
  def methods(:page), do: ["GET", "HEAD"]
  def methods(:login), do: ["GET", "HEAD", "POST"]
  def methods(:logout), do: ["POST"]

  @impl true
  def access(_action), do: :browser

  @impl true
  def handle(:page, _get, req, _caller) do
    session = Session.of(req)

    case Session.operator(session) do
      {:ok, operator} -> {:ok, show(req, session, operator)}
      {:error, _not_yet} -> {:ok, redirect(req, "/dashboard/login")}
    end
  end

  def handle(:login, "POST", req, _caller) do
    session = Session.of(req)

    with {:ok, form, req} <- form(req),
         :ok <- check_csrf(session, form),
         {:ok, operator} <- operator(form["key"]) do
      {:ok, req |> Session.put(Session.login(operator)) |> redirect("/dashboard")}
    else
      {:error, %Error{code: code} = error} when code in ["unauthorized", "forbidden"] ->
        {:ok, ask_key(req, session, Error.status(code), error.message)}

      {:error, error} ->
        {:error, error}
    end
  end

  def handle(:login, _get, req, _caller), do: {:ok, ask_key(req, Session.of(req), 200, nil)}

  def handle(:logout, "POST", req, _caller) do
    session = Session.of(req)

    with {:ok, form, req} <- form(req),
         :ok <- check_csrf(session, form) do
      :ok = Session.logout(session)
      {:ok, req |> Session.delete() |> redirect("/dashboard/login")}
    end
  end

  defp show(req, session, operator) do
    panels = req |> :cowboy_req.parse_qs() |> params() |> View.look(operator)
    body = View.layout() |> Layout.html(panels) |> IO.iodata_to_binary()
    id = "phx-" <> Session.random()
    csrf = Session.csrf(session)
    html = page(csrf, id, Session.page(session, id), operator.key, {:safe, body})
    answer(req, session, 200, html)
  end

  defp ask_key(req, session, status, error) do
    answer(req, session, status, login(Session.csrf(session), error))
  end

  defp answer(req, session, status, {:safe, html}) do
    headers =
      Map.merge(Page.headers(), %{
        # What is shown to one operator is nobody else's.
        "cache-control" => "no-store",
        # With no-referrer a browser would not tell the origin of the login form.
        "referrer-policy" => "same-origin"
      })

    :cowboy_req.reply(status, headers, html, Session.put(req, session))
  end

  defp redirect(req, to) do
    :cowboy_req.reply(303, Reply.secure(%{"location" => to, "cache-control" => "no-store"}), req)
  end

  defp operator(key) do
    with {:ok, caller} <- Access.authenticate(key),
         :ok <- Access.check_operator(caller),
         do: {:ok, caller}
  end

  defp check_csrf(session, form) do
    if Session.csrf?(session, form["_csrf_token"]),
      do: :ok,
      else: {:error, Error.new("forbidden", "The form was not of this session; send it again.")}
  end

  defp form(req) do
    {:ok, fields, req} = :cowboy_req.read_urlencoded_body(req, %{length: @max_form_bytes})
    {:ok, params(fields), req}
  end

  defp params(fields),
    do: for({name, value} <- fields, is_binary(value), into: %{}, do: {name, value})
end
