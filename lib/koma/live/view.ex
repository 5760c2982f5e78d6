defmodule Koma.Live.View do
  @moduledoc """
  What `Koma.Live.Channel` needs of a page: its layout, its panels, and what the events of a browser do.

  A view lives in the process of its topic. It returns the panels that changed; those go to the
  browser as one diff, of which the latest state of each panel wins where a client reads slowly.
  """

  alias Koma.Caller
  alias Koma.Live.{Layout, Panel}

  @type params :: %{String.t() => String.t()}
  @type changes :: %{Layout.name() => Panel.t()}
  @typedoc "`{:patch, url}` puts another address into the address bar."
  @type answer(state) :: {changes, state} | {changes, {:patch, String.t()}, state}

  @callback layout() :: Layout.t()

  @doc "Begins; returns every panel. Called in the process of the topic, or of the page's request."
  @callback mount(params, Caller.t()) :: {changes, state :: term}

  @doc "The address has changed, by a link or by the browser's history."
  @callback params(params, state :: term) :: {changes, state :: term}

  @doc "An event of an element: a click with its `phx-value-…`, or a form with its fields."
  @callback event(name :: String.t(), values :: params, state :: term) :: answer(term)

  @doc "A message to the process."
  @callback info(message :: term, state :: term) :: {changes, state :: term}
end
