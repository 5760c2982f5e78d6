defmodule Koma.HTTP.SSETest do
  use ExUnit.Case, async: true
  doctest Koma.HTTP.SSE

  alias Koma.HTTP.SSE

  test "an event with its number, a preview without" do
    assert IO.iodata_to_binary(SSE.event("progress", ~s({"step":1}), 4)) ==
             "id: 4\nevent: progress\ndata: {\"step\":1}\n\n"

    assert IO.iodata_to_binary(SSE.event("preview", "{}")) == "event: preview\ndata: {}\n\n"
  end

  test "a keepalive is a comment" do
    assert ":" <> _ = SSE.keepalive()
  end

  test "JSON never breaks the lines" do
    json = Koma.JSON.encode!(%{"text" => "a\nb\r\n\u2028c"})
    refute json =~ ~r/[\r\n]/
  end

  test "a Last-Event-ID that is no number is refused" do
    assert SSE.last_event_id(nil) == {:ok, 0}
    assert SSE.last_event_id("") == {:ok, 0}

    for header <- ["-1", "x", "1.5", "1 2", String.duplicate("9", 5000)] do
      case SSE.last_event_id(header) do
        {:error, %{code: "invalid_value", field: "last-event-id"}} -> :ok
        {:ok, seq} -> assert seq == 999_999_999_999_999_999
      end
    end
  end
end
