defmodule Koma.Dashboard.Button do
  @moduledoc """
  Buttons that ask for something to be done; nothing happens before it is confirmed
  (`Koma.Dashboard.Confirmation`).
  """

  require EEx

  EEx.function_from_string(
    :defp,
    :button,
    ~S(<button type="button" phx-click="<%= click %>" ) <>
      ~S(aria-label="<%= label %> <%= on %>"<%= if not enabled do %> disabled<% end %>><%= label %></button>),
    [:click, :on, :label, :enabled],
    engine: Koma.Live.HTML
  )

  @doc "A button that asks for `what` to be done to `on`; the focus comes back to it."
  @spec ask(String.t(), String.t(), String.t(), enabled :: boolean) :: Koma.Live.HTML.safe()
  def ask(what, on, label, enabled) do
    push = ["push", %{"event" => "ask", "value" => %{"do" => what, "on" => on}}]
    click = [["push_focus", %{}], push] |> Koma.JSON.encode!() |> IO.iodata_to_binary()
    button(click, on, label, enabled)
  end
end
