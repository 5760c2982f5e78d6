defmodule Koma.Dashboard.Part do
  @moduledoc """
  A part of the dashboard that looks the same to all who see it: what it shows is read, and only if
  that has changed it is rendered.
  """

  @doc "What there is to show; `argument` is e.g. a filter. Cheap: asked five times a second."
  @callback read(argument :: term) :: term

  @doc "How it looks."
  @callback html(read :: term) :: Koma.Live.HTML.safe()
end
