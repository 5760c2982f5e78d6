defmodule Koma.Channel.PreviewTest do
  use ExUnit.Case, async: true

  alias Koma.Channel.Preview
  alias Koma.JSON

  @preview %Koma.Job.Preview{
    step: 3,
    total: 12,
    media_type: "image/png",
    width: 64,
    height: 32,
    data: <<0, 255, 7>>
  }
  @header %{
    "id" => "job_1",
    "step" => 3,
    "total" => 12,
    "media_type" => "image/png",
    "width" => 64,
    "height" => 32
  }

  test "as base64 it is one JSON object with the bytes in data" do
    {:json, json} = Preview.encode(Preview.new("base64", "job_1", @preview))
    assert JSON.decode(json) == {:ok, Map.put(@header, "data", "AP8H")}
  end

  test "as binary it is the length of the header, the header, and the bytes" do
    preview = Preview.new("binary", "pl_1", @preview, %{"stage" => "image"})
    {:binary, iodata} = Preview.encode(preview)

    <<size::32, header::binary-size(size), data::binary>> = IO.iodata_to_binary(iodata)
    assert data == @preview.data
    assert JSON.decode(header) == {:ok, Map.merge(@header, %{"id" => "pl_1", "stage" => "image"})}
  end
end
