defmodule Koma.Channel.Serializer do
  @moduledoc """
  Bytes of WebSocket frames to messages and back: Phoenix Channels protocol 2 (`vsn=2.x`), pure.

  Text frames are JSON arrays `[join_ref, ref, topic, event, payload]`. Binary frames start with
  their kind (0 push, 1 reply, 2 broadcast) and the lengths of their strings, one byte each; the
  rest is the payload. From a client only kind 0 comes, and it carries a `ref`; the push of a
  server has none.

  Every frame to a client carries the `join_ref` of its topic, events for many clients included:
  there are clients that drop what lacks it. So what can be shared is the encoded payload, and
  the functions below put an envelope around it without copying it.
  """

  alias Koma.JSON
  alias Koma.Channel.Message

  @push 0
  # A length is one byte.
  @max_binary_string 255
  # Names of topics and events are kept in processes and logged; ours have at most 60 characters.
  @max_name 255

  @type frame :: {:text | :binary, iodata}
  @type status :: :ok | :error

  @doc """
  Reads a frame of a client.

  Errors are `invalid_json`, `invalid_request` (not five parts) and `wrong_type` (a part of the
  wrong type), each with as much of the message as could be read, so that it can be answered.
  """
  @spec decode(:text | :binary, binary) ::
          {:ok, Message.t()} | {:error, Koma.Error.t(), Message.t() | nil}
  def decode(:text, text) do
    case JSON.decode(text) do
      {:ok, [join_ref, ref, topic, event, payload]} ->
        check(%Message{
          join_ref: join_ref,
          ref: ref,
          topic: topic,
          event: event,
          payload: payload
        })

      {:ok, _other} ->
        malformed("A frame is an array [join_ref, ref, topic, event, payload].")

      {:error, error} ->
        {:error, error, nil}
    end
  end

  def decode(
        :binary,
        <<@push, join_size, ref_size, topic_size, event_size, join_ref::binary-size(join_size),
          ref::binary-size(ref_size), topic::binary-size(topic_size),
          event::binary-size(event_size), data::binary>>
      ) do
    check(%Message{
      join_ref: present(join_ref),
      ref: present(ref),
      topic: topic,
      event: event,
      payload: {:binary, data}
    })
  end

  def decode(:binary, _bytes), do: malformed("A binary frame of a client is a push (kind 0).")

  @doc "The answer to the message with `ref`; `response` is an object, or the JSON text of one."
  @spec reply(Message.ref(), Message.ref(), String.t(), status, Koma.Channel.response()) :: frame
  def reply(join_ref, ref, topic, status, response) do
    status = Atom.to_string(status)
    json = [~s({"status":"), status, ~s(","response":), json(response), ?}]
    text(join_ref, ref, topic, "phx_reply", json)
  end

  defp json({:json, text}), do: text
  defp json(response), do: JSON.encode!(response)

  @doc "The beginning of every push to a topic, made once when it is joined."
  @spec prefix(Message.ref(), String.t()) :: binary
  def prefix(join_ref, topic) do
    "[" <> JSON.encode!(join_ref) <> ",null," <> JSON.encode!(topic) <> ","
  end

  @doc """
  An event of the server, with a payload that is JSON text already. `event` is one of our own
  names, which need no escapes.
  """
  @spec push(prefix :: binary, String.t(), json :: iodata) :: frame
  def push(prefix, event, json), do: {:text, [prefix, ?", event, ~s(",), json, ?]]}

  @doc "An event of the server whose payload is bytes. Raises for a name of more than 255 bytes."
  @spec push_binary(Message.ref(), String.t(), String.t(), iodata) :: frame
  def push_binary(join_ref, topic, event, data) do
    join_ref = to_string(join_ref)
    sizes = for name <- [join_ref, topic, event], do: short_size(name)
    {:binary, [@push, sizes, join_ref, topic, event, data]}
  end

  @doc "The topic is over for the client: `phx_close`, or `phx_error` after which it joins again."
  @spec close(Message.ref(), String.t()) :: frame
  def close(join_ref, topic), do: text(join_ref, join_ref, topic, "phx_close", "{}")

  @doc "The process of the topic crashed; the clients join again by themselves."
  @spec crash(Message.ref(), String.t()) :: frame
  def crash(join_ref, topic) do
    text(join_ref, join_ref, topic, "phx_error", ~s({"reason":"channel_crash"}))
  end

  defp text(join_ref, ref, topic, event, json) do
    head = Enum.map_intersperse([join_ref, ref, topic], ?,, &JSON.encode!/1)
    {:text, [?[, head, ~s(,"), event, ~s(",), json, ?]]}
  end

  defp check(%Message{} = message) do
    with :ok <- check_ref("join_ref", message.join_ref),
         :ok <- check_ref("ref", message.ref),
         :ok <- check_name("topic", message.topic),
         :ok <- check_name("event", message.event) do
      {:ok, message}
    else
      {:error, error} -> {:error, error, answerable(message)}
    end
  end

  # What is left of a message with a part of the wrong type is enough to address the refusal.
  defp answerable(%Message{} = message) do
    name = fn part -> if is_binary(part) and String.valid?(part), do: part, else: "phoenix" end
    ref = fn part -> if ref?(part), do: part end

    %Message{
      message
      | join_ref: ref.(message.join_ref),
        ref: ref.(message.ref),
        topic: name.(message.topic)
    }
  end

  defp check_ref(field, value) do
    if ref?(value), do: :ok, else: wrong_type(field, value, "a string, an integer or null")
  end

  defp ref?(value) when is_binary(value),
    do: String.valid?(value) and byte_size(value) <= @max_name

  defp ref?(value), do: is_nil(value) or is_integer(value)

  defp check_name(field, value) when is_binary(value) do
    if String.valid?(value) and byte_size(value) in 1..@max_name,
      do: :ok,
      else: wrong_type(field, value, "UTF-8 of 1 to #{@max_name} bytes")
  end

  defp check_name(field, value), do: wrong_type(field, value, "a string")

  defp wrong_type(field, value, wanted) do
    message = "The #{field} of a frame must be #{wanted}."
    {:error, Koma.Error.new("wrong_type", message, field: field, value: value)}
  end

  defp malformed(message), do: {:error, Koma.Error.new("invalid_request", message), nil}

  defp present(""), do: nil
  defp present(string), do: string

  defp short_size(string) when byte_size(string) <= @max_binary_string, do: byte_size(string)
end
