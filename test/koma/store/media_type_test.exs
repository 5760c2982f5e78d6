defmodule Koma.Store.MediaTypeTest do
  use ExUnit.Case, async: true

  alias Koma.Store.MediaType

  @golden "../../media/heads.json"
          |> Path.expand(__DIR__)
          |> File.read!()
          |> Koma.JSON.decode()
          |> elem(1)

  test "the bytes of every golden file tell its type, whatever is claimed" do
    for %{"file" => file, "head" => hex, "media_type" => type} <- @golden["heads"] do
      head = Base.decode16!(hex, case: :lower)
      assert {file, MediaType.sniff(head, nil)} == {file, type}
      assert MediaType.sniff(head, "application/x-told") == (type || "application/x-told")

      assert MediaType.sniff(head <> :binary.copy("x", 1_000), "text/plain") in [
               type,
               "text/plain"
             ]
    end
  end

  test "every type that is told has a name, and both languages use the same" do
    for {type, name} <- @golden["names"], do: assert(MediaType.name(type) == name)

    for %{"media_type" => type} when type != nil <- @golden["heads"],
        do: assert(is_map_key(@golden["names"], type))

    assert MediaType.name("application/x-told") == "application/x-told"
  end

  test "a claim that the bytes would show, had it been true, is not believed" do
    for claimed <- ["video/mp4", "image/png", "video/webm", "application/pdf"],
        do: assert(MediaType.sniff("just text", claimed) == "application/octet-stream")

    assert MediaType.sniff("just text", "text/plain") == "text/plain"
  end
end
