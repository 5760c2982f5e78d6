defmodule Koma.Live.HTMLTest do
  use ExUnit.Case, async: true

  require EEx

  alias Koma.Live.HTML

  doctest HTML

  EEx.function_from_string(
    :defp,
    :row,
    ~S(<td title="<%= text %>"><%= text %></td>),
    [:text],
    engine: HTML
  )

  EEx.function_from_string(
    :defp,
    :table,
    ~S|<%= for text <- texts do %><tr><%= row(text) %></tr><% end %><%= if texts == [] do %>none<% end %>|,
    [:texts],
    engine: HTML
  )

  @attacks [
    ~S|<script>alert(1)</script>|,
    ~S|"><img src=x onerror=alert(1)>|,
    ~S|' onmouseover='alert(1)|,
    ~S|<svg/onload=alert(1)>|,
    ~S|</td></tr></table><iframe srcdoc="<script>alert(1)</script>">|,
    ~S|&lt;script&gt;|,
    ~S|<!--<script>-->|,
    "<\u0000script>alert(1)</script>",
    ~S|" phx-click="confirm|
  ]

  test "whatever text a template shows, it adds no element, attribute or comment" do
    {:safe, plain} = row("x")

    for attack <- @attacks do
      {:safe, html} = row(attack)
      assert shape(html) == shape(plain), "#{attack} became #{html}"
    end
  end

  test "templates within templates and blocks are escaped once, not twice and not never" do
    assert table(["<", "&"]) ==
             {:safe, ~s(<tr><td title="&lt;">&lt;</td></tr><tr><td title="&amp;">&amp;</td></tr>)}

    assert table([]) == {:safe, "none"}
  end

  test "bytes that are no text are shown as replacement characters, in valid UTF-8" do
    assert HTML.escape(<<"a", 0xFF, "b<">>) == "a\uFFFDb&lt;"
    assert String.valid?(HTML.escape(:crypto.strong_rand_bytes(200)))
  end

  # The characters that make structure.
  defp shape(html), do: String.replace(html, ~r/[^<>"']/, "")
end
