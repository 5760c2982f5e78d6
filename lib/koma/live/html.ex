defmodule Koma.Live.HTML do
  @moduledoc """
  The one place where text becomes HTML: an engine for EEx templates in which whatever `<%= … %>`
  yields is escaped, unless it is the result of another template.

      EEx.function_from_file(:defp, :row, "row.html.eex", [:job], engine: Koma.Live.HTML)

  A template yields `{:safe, binary}`; nothing else makes such a value. Attributes have to stand in
  quotation marks.
  """

  @behaviour EEx.Engine

  @type safe :: {:safe, binary}
  @typedoc "What a template may show; `nil` shows nothing."
  @type shown :: safe | String.t() | number | atom | [shown]

  @special ["&", "<", ">", "\"", "'"]

  @doc ~S"""
  Text as HTML, in a text or between quotation marks. What is no UTF-8 is shown as `U+FFFD`.

      iex> Koma.Live.HTML.escape(~s(<a title="x">&'))
      "&lt;a title=&quot;x&quot;&gt;&amp;&#39;"

      iex> Koma.Live.HTML.escape([{:safe, "<b>"}, 7, nil, :ready])
      "<b>7ready"
  """
  @spec escape(shown) :: binary
  def escape({:safe, html}), do: html
  def escape(text) when is_binary(text), do: text |> printable() |> replace()
  def escape(nil), do: ""
  def escape(list) when is_list(list), do: list |> Enum.map(&escape/1) |> IO.iodata_to_binary()
  def escape(other), do: other |> to_string() |> replace()

  defp replace(text), do: String.replace(text, @special, &entity/1)

  defp entity("&"), do: "&amp;"
  defp entity("<"), do: "&lt;"
  defp entity(">"), do: "&gt;"
  defp entity("\""), do: "&quot;"
  defp entity("'"), do: "&#39;"

  defp printable(text) do
    if String.valid?(text),
      do: text,
      else:
        text |> String.chunk(:valid) |> Enum.map_join(&if(String.valid?(&1), do: &1, else: "�"))
  end

  @impl EEx.Engine
  defdelegate init(options), to: EEx.Engine

  @impl EEx.Engine
  defdelegate handle_begin(state), to: EEx.Engine

  @impl EEx.Engine
  defdelegate handle_text(state, meta, text), to: EEx.Engine

  @impl EEx.Engine
  def handle_end(state), do: safe(EEx.Engine.handle_end(state))

  @impl EEx.Engine
  def handle_body(state), do: safe(EEx.Engine.handle_body(state))

  @impl EEx.Engine
  def handle_expr(state, "=", expression) do
    EEx.Engine.handle_expr(state, "=", quote(do: Koma.Live.HTML.escape(unquote(expression))))
  end

  def handle_expr(state, marker, expression) do
    EEx.Engine.handle_expr(state, marker, expression)
  end

  defp safe(body), do: quote(do: {:safe, unquote(body)})
end
