defmodule Koma.HTTP.EventStream do
  @moduledoc """
  `GET /v1/jobs/:id/events` and the same of pipelines, as server-sent events.

  Runs in the process of its request, which holds the subscription. Sending waits for the client, so a
  slow one lets messages queue up here: of previews only the latest is sent. When everything
  up to the terminal event was seen before, the answer is 204, upon which an `EventSource`
  stops connecting again. As it can do nothing about the number that it repeats, one that no
  event has had yet counts as that of the latest.
  """

  alias Koma.Channel.Preview
  alias Koma.{Access, Follower, Params}
  alias Koma.HTTP.{Reply, SSE}
  alias Koma.Job.Event

  @query %{"previews" => {{:one_of, ["base64", "none"]}, "base64"}}
  @keepalive_ms 15_000

  @enforce_keys [:follower, :req, :previews]
  defstruct [:follower, :req, :previews]

  @doc "Subscribes and answers; errors come before the answer begins."
  @spec serve(:job | :pipeline, :cowboy_req.req(), Koma.Caller.t()) :: Koma.HTTP.Handler.result()
  def serve(kind, req, caller) do
    subject = {kind, :cowboy_req.binding(:id, req)}

    with {:ok, %{"previews" => form}} <- Params.check(query(req), @query),
         {:ok, seq} <- SSE.last_event_id(:cowboy_req.header("last-event-id", req, nil)),
         :ok <- Access.hold(caller, :sockets),
         {:ok, follower, _map, events, previews} <- Follower.start(subject, seq, caller, :clamp) do
      stream = %__MODULE__{follower: follower, req: req, previews: form}

      if events == [] and follower.ended,
        do: {:ok, :cowboy_req.reply(204, req)},
        else: {:stream, fn -> run(stream, events, previews) end}
    end
  end

  defp query(req), do: req |> :cowboy_req.parse_qs() |> Map.new()

  defp run(stream, events, previews) do
    # The end is that of the job; a client that has gone is noticed by its connection.
    :ok = :cowboy_req.cast({:set_options, %{idle_timeout: :infinity}}, stream.req)

    headers =
      Reply.secure(%{"content-type" => "text/event-stream", "cache-control" => "no-store"})

    stream = %__MODULE__{stream | req: :cowboy_req.stream_reply(200, headers, stream.req)}

    if send_events(stream, events) == :more do
      Enum.each(previews, &send_preview(stream, &1))
      loop(stream)
    end

    stream.req
  end

  defp loop(stream) do
    receive do
      :koma_access_changed ->
        go_on_if_valid(stream)

      message ->
        stream |> handle(Follower.handle(stream.follower, message)) |> go_on()
    after
      @keepalive_ms ->
        send_text(stream, SSE.keepalive(), :nofin)
        go_on_if_valid(stream)
    end
  end

  defp go_on_if_valid(stream) do
    if Access.valid?(stream.follower.caller), do: loop(stream), else: send_text(stream, "", :fin)
  end

  defp go_on({:more, stream}), do: loop(stream)
  defp go_on({:last, _stream}), do: :ok

  defp handle(stream, {:events, events, follower}) do
    stream = %__MODULE__{stream | follower: follower}
    {send_events(stream, events), stream}
  end

  defp handle(stream, {:preview, preview}) do
    send_preview(stream, newest(stream, preview))
    {:more, stream}
  end

  defp handle(stream, :other), do: {:more, stream}

  defp send_events(stream, events) do
    Enum.reduce_while(events, :more, fn event, :more ->
      last? = Follower.terminal?(event.type)
      json = Event.json(event, id(stream))
      send_text(stream, SSE.event(event.type, json, event.seq), if(last?, do: :fin, else: :nofin))
      if last?, do: {:halt, :last}, else: {:cont, :more}
    end)
  end

  defp send_preview(%__MODULE__{previews: "none"}, _preview), do: :ok

  defp send_preview(stream, {stage, preview}) do
    extra = if stage, do: %{"stage" => stage}, else: %{}
    preview = Preview.new(stream.previews, id(stream), preview, extra)
    {:json, json} = Preview.encode(preview)
    send_text(stream, SSE.event("preview", json), :nofin)
  end

  defp newest(%__MODULE__{} = stream, {stage, _preview} = preview) do
    id = id(stream)

    receive do
      {:koma_preview, ^id, newer} -> newest(stream, {stage, newer})
      {:koma_pipeline_preview, ^id, ^stage, newer} -> newest(stream, {stage, newer})
    after
      0 -> preview
    end
  end

  defp send_text(stream, text, fin), do: :ok = :cowboy_req.stream_body(text, fin, stream.req)

  defp id(%__MODULE__{follower: %Follower{subject: {_kind, id}}}), do: id
end
