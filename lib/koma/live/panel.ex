defmodule Koma.Live.Panel do
  @moduledoc """
  A rendered part of a page: as HTML and, encoded once for all who are shown it, as a JSON string.
  """

  alias Koma.Live.HTML

  @enforce_keys [:html, :json]
  defstruct [:html, :json]

  @type t :: %__MODULE__{html: binary, json: binary}

  @doc "The result of a template as a panel."
  @spec new(HTML.safe()) :: t
  def new({:safe, html}), do: %__MODULE__{html: html, json: json(html)}

  # A binary of its own, which processes share without copying.
  defp json(html), do: html |> Koma.JSON.encode!() |> IO.iodata_to_binary()
end
