defmodule Koma.Channel.SerializerTest do
  use ExUnit.Case, async: true

  import Koma.Properties

  alias Koma.Channel.{Message, Serializer}

  defp bytes({type, iodata}), do: {type, IO.iodata_to_binary(iodata)}

  describe "frames of a client" do
    test "a text frame is an array of five parts" do
      text = ~s(["5","10","jobs","submit",{"task":"toy.run"}])

      assert Serializer.decode(:text, text) ==
               {:ok,
                %Message{
                  join_ref: "5",
                  ref: "10",
                  topic: "jobs",
                  event: "submit",
                  payload: %{"task" => "toy.run"}
                }}
    end

    test "refs that are numbers or null are kept as they are" do
      assert {:ok, %{join_ref: nil, ref: 7}} =
               Serializer.decode(:text, ~s([null,7,"phoenix","heartbeat",{}]))
    end

    # The bytes that npm's phoenix 1.8.16 sends for push("bin", ArrayBuffer) on "jobs:1".
    test "a binary push is read as the official client writes it" do
      frame = <<0, 1, 2, 6, 3, "5", "12", "jobs:1", "bin", 7, 8>>

      assert {:ok, message} = Serializer.decode(:binary, frame)
      assert %{join_ref: "5", ref: "12", topic: "jobs:1", event: "bin"} = message
      assert message.payload == {:binary, <<7, 8>>}
    end

    test "binary frames of other kinds, truncated or empty ones are refused" do
      for frame <- [<<>>, <<0>>, <<1, 1, 1, 1, 1, "abcd">>, <<0, 1, 2, 6, 3, "5", "12", "jo">>] do
        assert {:error, %{code: "invalid_request"}, nil} = Serializer.decode(:binary, frame)
      end
    end

    test "text that is not JSON is invalid_json, other shapes are invalid_request" do
      assert {:error, %{code: "invalid_json"}, nil} = Serializer.decode(:text, "[1,")

      for text <- ["{}", "[]", "1", ~s(["1","2","t","e"]), ~s(["1","2","t","e",{},6])] do
        assert {:error, %{code: "invalid_request"}, nil} = Serializer.decode(:text, text)
      end
    end

    test "a part of the wrong type is named, and what addresses the answer is kept" do
      for {text, field} <- [
            {~s([{},"2","t","e",{}]), "join_ref"},
            {~s(["1",[],"t","e",{}]), "ref"},
            {~s(["1","2",3,"e",{}]), "topic"},
            {~s(["1","2","t",null,{}]), "event"},
            {~s(["1","2","","e",{}]), "topic"}
          ] do
        assert {:error, %{code: "wrong_type", field: ^field}, %Message{} = message} =
                 Serializer.decode(:text, text)

        assert is_binary(message.topic)
        if field != "ref", do: assert(message.ref == "2")
      end
    end

    test "names that are not UTF-8 are refused with an error that can be told in JSON" do
      frame = <<0, 0, 1, 1, 1, "1", 255, "e">>
      assert {:error, %{code: "wrong_type"} = error, _message} = Serializer.decode(:binary, frame)
      assert {:ok, _} = error |> Koma.Error.to_map() |> Koma.JSON.encode!() |> Koma.JSON.decode()
    end
  end

  describe "whatever comes from a client" do
    defp readable?(type, bytes) do
      case Serializer.decode(type, bytes) do
        {:ok, %Message{topic: topic, event: event}} ->
          is_binary(topic) and is_binary(event)

        {:error, error, nil} ->
          tellable?(Serializer.reply(nil, nil, "phoenix", :error, to_map(error)))

        {:error, error, m} ->
          tellable?(Serializer.reply(m.join_ref, m.ref, m.topic, :error, to_map(error)))
      end
    end

    defp to_map(error), do: Koma.Error.to_map(error)

    defp tellable?({:text, iodata}), do: match?({:ok, [_, _, _, _, _]}, Koma.JSON.decode(iodata))

    test "any bytes are read or refused with an error that can be told" do
      assert holds({one_of([:text, :binary]), bytes()}, fn {type, bytes} ->
               readable?(type, bytes)
             end)
    end

    test "so is a good frame with one byte changed or its end missing" do
      text = ~s(["5","10","job:é",  "submit",{"a":[1,2.5e3,null],"b":"\\u00e9"}])
      binary = <<0, 1, 2, 6, 3, "5", "12", "jobs:1", "bin", 7, 8>>

      change = {one_of([{:text, text}, {:binary, binary}]), integer(0, 200), integer(0, 255)}

      assert holds(change, fn {{type, bytes}, at, byte} ->
               at = rem(at, byte_size(bytes))
               <<head::binary-size(at), _old, tail::binary>> = bytes
               readable?(type, head <> <<byte>> <> tail) and readable?(type, head)
             end)
    end
  end

  describe "frames to a client" do
    test "a reply" do
      assert bytes(Serializer.reply("5", "7", "jobs", :ok, %{})) ==
               {:text, ~s(["5","7","jobs","phx_reply",{"status":"ok","response":{}}])}
    end

    test "a push carries the join_ref and shares the encoded payload" do
      assert bytes(Serializer.push(Serializer.prefix("5", "job:é"), "progress", ~s({"step":1}))) ==
               {:text, ~s(["5",null,"job:é","progress",{"step":1}])}
    end

    test "close and crash carry the join_ref twice" do
      assert bytes(Serializer.close("5", "t")) == {:text, ~s(["5","5","t","phx_close",{}])}

      assert bytes(Serializer.crash("5", "t")) ==
               {:text, ~s(["5","5","t","phx_error",{"reason":"channel_crash"}])}
    end

    test "a binary push has no ref" do
      assert bytes(Serializer.push_binary("5", "job:1", "preview", ["ab", <<0>>])) ==
               {:binary, <<0, 1, 5, 7, "5", "job:1", "preview", "ab", 0>>}
    end
  end
end
