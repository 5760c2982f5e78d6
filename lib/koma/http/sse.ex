defmodule Koma.HTTP.SSE do
  @moduledoc "Server-sent events (WHATWG HTML, 9.2) as text: pure."

  @doc "One event; without an id the client keeps the last one it saw."
  @spec event(String.t(), json :: iodata, pos_integer | nil) :: iodata
  def event(type, json, id \\ nil)
  def event(type, json, nil), do: ["event: ", type, "\ndata: ", json, "\n\n"]
  def event(type, json, id), do: ["id: ", Integer.to_string(id), ?\n | event(type, json)]

  @doc "A line that clients skip; it keeps proxies from closing a silent connection."
  @spec keepalive() :: iodata
  def keepalive, do: ": keepalive\n\n"

  @doc """
  The number in a `Last-Event-ID` header: 0 without one.

      iex> Koma.HTTP.SSE.last_event_id("17")
      {:ok, 17}
  """
  @spec last_event_id(String.t() | nil) :: {:ok, non_neg_integer} | {:error, Koma.Error.t()}
  def last_event_id(header) when header in [nil, ""], do: {:ok, 0}

  def last_event_id(header) do
    case Integer.parse(String.slice(header, 0, 18)) do
      {seq, ""} when seq >= 0 ->
        {:ok, seq}

      _other ->
        message = "Last-Event-ID must be the seq of an event."
        details = [field: "last-event-id", value: header]
        {:error, Koma.Error.new("invalid_value", message, details)}
    end
  end
end
