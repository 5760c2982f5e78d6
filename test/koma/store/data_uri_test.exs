defmodule Koma.Store.DataURITest do
  use ExUnit.Case, async: true

  alias Koma.Store.DataURI

  doctest DataURI

  test "padding may be left out, lines may be wrapped, names may be in any case" do
    for uri <- [
          "data:IMAGE/PNG;base64,S29tYQ",
          "data:image/png;BASE64,S29t\r\n YQ==",
          "data:image/png;name=a.png;base64,S29tYQ=="
        ] do
      assert DataURI.decode(uri) == {:ok, "image/png", "Koma"}
    end
  end

  test "what is no such URI is told apart from an empty file" do
    for text <- [
          "data:",
          "data:image/png;base64",
          "data:;base64,%%",
          "file:///etc",
          ""
        ],
        do: assert(DataURI.decode(text) == :error)

    assert DataURI.decode("data:image/png;base64,") == {:ok, "image/png", ""}
  end
end
