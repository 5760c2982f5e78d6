defmodule Koma.HTTP.Studio do
  @moduledoc """
  `/`: the Studio, where a person meets Koma. The page is a shell that says whether an API key is
  needed; what fills it are the modules of `priv/static/studio`, which ask the same routes and
  topics as any other client.
  """

  @behaviour Koma.HTTP.Handler

  require EEx

  alias Koma.Access
  alias Koma.HTTP.Page

  EEx.function_from_file(:defp, :shell, Path.join(__DIR__, "studio.html.eex"), [:assigns])

  # Fetched at once, not one after the other as they name each other.
  @modules "priv/static/studio/*.js" |> Path.wildcard() |> Enum.map(&Path.basename/1)

  # No script of the Studio makes markup from text: what tries is refused by the browser.
  @directives ["require-trusted-types-for 'script'", "trusted-types 'none'"]

  @impl true
  def methods(:page), do: ["GET", "HEAD"]

  @impl true
  def access(:page), do: :public

  @impl true
  def handle(:page, _get, req, _caller) do
    {:ok,
     Page.html(
       req,
       shell(%{version: version(), keys?: Access.keys?(), modules: @modules}),
       @directives
     )}
  end

  defp version, do: :koma |> Application.spec(:vsn) |> to_string()
end
