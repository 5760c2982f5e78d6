defmodule Koma.Live.Channel do
  @moduledoc """
  Topic `lv:<id>`: a page that the official client of Phoenix LiveView keeps up to date.

  Only what that client, version 1.2, needs: the answer to a join is the whole tree; later the panels
  that changed go as `diff`, at the speed at which the client reads (`Koma.Channel.Outbox`).

    * An event is never answered with `error`: its element would be locked for good. What an event cannot do is
      told in the page.
    * A diff is pushed, never part of an answer: so a later one cannot be overtaken by an earlier one.
    * A join that is refused says `stale`, whereupon the client loads the page anew, or where to log in.
  """

  @behaviour Koma.Channel

  alias Koma.{Caller, Error, JSON}
  alias Koma.Live.{Layout, Router, Session}

  # To other versions the client writes a warning to its console.
  @client_version "1.2.12"
  # One page so far.
  @view Koma.Dashboard.View
  @login "/dashboard/login"

  @enforce_keys [:layout, :session, :view]
  defstruct [:layout, :session, :view]

  @type t :: %__MODULE__{layout: Layout.t(), session: Session.t(), view: term}

  @doc "The version of the client that this server is written for."
  @spec client_version() :: String.t()
  def client_version, do: @client_version

  @impl true
  @spec join(Router.argument(), term, Caller.t()) ::
          {:ok, {:json, iodata}, [], t} | {:error, Error.t(), response :: map}
  def join({page_id, session}, payload, _caller) do
    with :ok <- check(session, page_id, payload),
         {:ok, operator} <- Session.operator(session) do
      layout = @view.layout()
      {panels, view} = @view.mount(query(payload["redirect"] || payload["url"]), operator)
      tree = Layout.tree(layout, panels)
      response = [~s({"liveview_version":"), @client_version, ~s(","rendered":), tree, "}"]
      {:ok, {:json, response}, [], %__MODULE__{layout: layout, session: session, view: view}}
    else
      {:error, error} -> {:error, error, refusal(error)}
    end
  end

  @impl true
  @spec handle_in(String.t(), term, t) :: {:ok, map, [Koma.Channel.push()], t}
  def handle_in("event", %{"event" => name} = payload, state) when is_binary(name) do
    case Session.operator(state.session) do
      {:ok, _operator} -> name |> @view.event(values(payload), state.view) |> answer(state)
      {:error, _error} -> {:ok, to_login(), [], state}
    end
  end

  def handle_in("live_patch", %{"url" => url}, state) do
    url |> query() |> @view.params(state.view) |> answer(state)
  end

  # Of components, which there are none of, and whatever else a client may tell.
  def handle_in(_event, _payload, state), do: {:ok, %{}, [], state}

  @impl true
  @spec handle_info(term, t) :: {[Koma.Channel.push()], t}
  def handle_info(message, %__MODULE__{} = state) do
    {changes, view} = @view.info(message, state.view)
    {diff(changes, state), %__MODULE__{state | view: view}}
  end

  defp check(session, page_id, payload) do
    params = if is_map(payload), do: payload["params"]

    if is_map(params) and Session.csrf?(session, params["_csrf_token"]) and
         Session.page?(session, page_id, payload["session"]),
       do: :ok,
       else: {:error, Error.new("unauthorized", "The page is not of this session.")}
  end

  defp refusal(%Error{code: "unauthorized", message: "The page" <> _rest}) do
    %{"reason" => "stale"}
  end

  defp refusal(_no_operator), do: to_login()

  defp to_login, do: %{"redirect" => %{"to" => @login}}

  defp answer({changes, view}, state) do
    {:ok, %{}, diff(changes, state), %__MODULE__{state | view: view}}
  end

  defp answer({changes, {:patch, url}, view}, state) do
    patch = JSON.encode!(%{"kind" => "replace", "to" => url})
    {:ok, %{}, pushes, state} = answer({changes, view}, state)
    {:ok, %{}, [{:event, "live_patch", patch} | pushes], state}
  end

  defp diff(changes, _state) when changes == %{}, do: []

  defp diff(changes, state) do
    [
      {:diff,
       Map.new(changes, fn {name, panel} -> {Layout.position(state.layout, name), panel.json} end)}
    ]
  end

  # A form comes as text, a click as an object.
  defp values(%{"value" => text}) when is_binary(text), do: decode(text)
  defp values(%{"value" => %{} = values}), do: strings(values)
  defp values(_none), do: %{}

  defp strings(values), do: Map.filter(values, fn {_name, value} -> is_binary(value) end)

  defp query(url) when is_binary(url) do
    case URI.new(url) do
      {:ok, %URI{query: query}} when is_binary(query) -> decode(query)
      _none -> %{}
    end
  end

  defp query(_none), do: %{}

  # The client marks fields that nobody has touched yet.
  defp decode(text) do
    text
    |> URI.decode_query()
    |> Map.reject(fn {name, value} ->
      String.starts_with?(name, "_unused_") or not String.valid?(value)
    end)
  rescue
    ArgumentError -> %{}
  end
end
