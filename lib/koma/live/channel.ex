defmodule Koma.Live.Channel do
  @moduledoc """
  Topic `lv:<id>`: a page that the official client of Phoenix LiveView keeps up to date.

  Only what that client, version 1.2, needs: the answer to a join is the whole tree; later the panels
  that changed go as `diff`.

    * The next diff goes when the page's script has said that the one before is seen, and holds the latest
      state of each panel: a slow browser skips states instead of falling behind.
    * An event is never answered with `error`: its element would be locked for good. What an event cannot do is
      told in the page.
    * A diff is pushed, never part of an answer: so a later one cannot be overtaken by an earlier one.
    * A join that is refused says `stale`, whereupon the client loads the page anew, or where to log in.
  """

  @behaviour Koma.Channel

  alias Koma.{Caller, Error, JSON}
  alias Koma.Live.{Layout, Router, Session, View}

  # To other versions the client writes a warning to its console.
  @client_version "1.2.12"
  @login "/dashboard/login"
  # What was not seen by then is taken for lost.
  @patience_ms 10_000

  @enforce_keys [:page, :layout, :session, :view]
  defstruct [:page, :layout, :session, :view, :unseen_since, held: %{}]

  @typedoc "`page` is the module of the page; `held` is what waits until the diff before is seen."
  @type t :: %__MODULE__{
          page: module,
          layout: Layout.t(),
          session: Session.t(),
          view: term,
          unseen_since: integer | nil,
          held: View.changes()
        }

  @doc "The version of the client that this server is written for."
  @spec client_version() :: String.t()
  def client_version, do: @client_version

  @impl true
  @spec join(Router.argument(), term, Caller.t()) ::
          {:ok, {:json, iodata}, [], t} | {:error, Error.t(), response :: map}
  def join({page_id, session, page}, payload, _caller) do
    with :ok <- check(session, page_id, payload),
         {:ok, operator} <- Session.operator(session) do
      layout = page.layout()
      {panels, view} = page.mount(query(payload["redirect"] || payload["url"]), operator)
      tree = Layout.tree(layout, panels)
      response = [~s({"liveview_version":"), @client_version, ~s(","rendered":), tree, "}"]
      state = %__MODULE__{page: page, layout: layout, session: session, view: view}
      {:ok, {:json, response}, [], state}
    else
      :stale ->
        {:error, Error.new("unauthorized", "Another session's page"), %{"reason" => "stale"}}

      {:error, no_operator} ->
        {:error, no_operator, to_login()}
    end
  end

  @impl true
  @spec handle_in(String.t(), term, t) :: {:ok, map, [Koma.Channel.push()], t}
  def handle_in("seen", _payload, state) do
    {pushes, state} = show(%{}, %__MODULE__{state | unseen_since: nil})
    {:ok, %{}, pushes, state}
  end

  def handle_in(event, payload, state) do
    case Session.operator(state.session) do
      {:ok, _operator} -> event |> act(payload, state) |> answer(state)
      {:error, _error} -> {:ok, to_login(), [], state}
    end
  end

  defp act("event", %{"event" => name} = payload, state) when is_binary(name) do
    state.page.event(name, values(payload), state.view)
  end

  defp act("live_patch", %{"url" => url}, state) do
    url |> query() |> state.page.params(state.view)
  end

  # Of components, which there are none of, and whatever else a client may tell.
  defp act(_event, _payload, state), do: {%{}, state.view}

  @impl true
  @spec handle_info(term, t) :: {[Koma.Channel.push()], t}
  def handle_info(message, %__MODULE__{} = state) do
    {changes, view} = state.page.info(message, state.view)
    show(changes, %__MODULE__{state | view: view})
  end

  defp check(session, page_id, payload) do
    params = if is_map(payload), do: payload["params"]

    if is_map(params) and Session.csrf?(session, params["_csrf_token"]) and
         Session.page?(session, page_id, payload["session"]),
       do: :ok,
       else: :stale
  end

  defp to_login, do: %{"redirect" => %{"to" => @login}}

  defp answer({changes, view}, state) do
    {pushes, state} = show(changes, %__MODULE__{state | view: view})
    {:ok, %{}, pushes, state}
  end

  defp answer({changes, {:patch, url}, view}, state) do
    patch = JSON.encode!(%{"kind" => "replace", "to" => url})
    {:ok, %{}, pushes, state} = answer({changes, view}, state)
    {:ok, %{}, [{:event, "live_patch", patch} | pushes], state}
  end

  defp show(changes, %__MODULE__{} = state) do
    held = Map.merge(state.held, changes)

    if held == %{} or unseen?(state) do
      {[], %__MODULE__{state | held: held}}
    else
      diff = Layout.diff(state.layout, held)
      {[{:event, "diff", diff}], %__MODULE__{state | held: %{}, unseen_since: now()}}
    end
  end

  defp unseen?(%__MODULE__{unseen_since: nil}), do: false
  defp unseen?(%__MODULE__{unseen_since: since}), do: now() - since < @patience_ms

  defp now, do: System.monotonic_time(:millisecond)

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
