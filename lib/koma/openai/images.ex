defmodule Koma.OpenAI.Images do
  @moduledoc """
  `/v1/images/generations`: pictures from words, at once or with their previews on the way.

  `/v1/images/edits` is refused, because no task here changes a picture.
  """

  @behaviour Koma.HTTP.Handler

  alias Koma.{Each, Error, Params}
  alias Koma.HTTP.{Body, Reply}
  alias Koma.OpenAI.{Outputs, Refusal, Request, Run, Stream}

  @task "image.generate"
  @options %{
    "stream" => {:boolean, false},
    "partial_images" => {{:integer, 0, 3}, 0},
    "response_format" => {{:one_of, ~w(b64_json url)}, "b64_json"}
  }

  @impl true
  def methods(_action), do: ["POST"]

  @impl true
  defdelegate refuse(req, error, headers), to: Refusal, as: :reply

  @impl true
  def handle(:generations, "POST", req, caller) do
    with {:ok, body, req} <- Body.work(req),
         {:ok, options} <- Params.check(Map.take(body, Map.keys(@options)), @options),
         {:ok, request} <- Request.new(body, @task, %{"num_inference_steps" => "steps"}),
         {:ok, request} <- Request.put_size(request, body["size"]),
         {:ok, run} <- Run.start(request, caller) do
      {:stream, fn -> answer(options, run, req, caller) end}
    end
  end

  def handle(:edits, "POST", _req, _caller) do
    message = "No model of this server changes pictures; /v1/images/generations makes new ones"
    {:error, Error.new("unknown_task", message, field: "model", value: "images/edits")}
  end

  defp answer(%{"stream" => false} = options, run, req, caller) do
    :ok = :cowboy_req.cast({:set_options, %{idle_timeout: :infinity}}, req)

    with {:ok, job} <- Run.await(run),
         {:ok, data} <- data(job, options, req, caller) do
      body = Map.merge(shape(job), %{"created" => seconds(job), "data" => data})
      Reply.json(req, 200, body, %{"x-request-id" => run.id})
    else
      {:error, error} -> Refusal.reply(req, error, %{"x-request-id" => run.id})
    end
  end

  defp answer(%{"stream" => true} = options, run, req, caller) do
    req = Stream.begin(req, run)

    with {:ok, job, _sent} <- Run.fold(run, 0, &partial(&1, &2, options["partial_images"], req)),
         {:ok, images} <- Each.map(Outputs.of(job, "image/"), &Outputs.base64(&1, caller)) do
      Enum.each(images, &Stream.event(req, completed(job, &1)))
    else
      {:error, error, _sent} -> Stream.error(req, error)
      {:error, error} -> Stream.error(req, error)
    end

    Stream.close(req)
  end

  defp data(job, options, req, caller) do
    Each.map(Outputs.of(job, "image/"), fn output ->
      if options["response_format"] == "url" do
        {:ok, %{"url" => Outputs.url(req, output["url"])}}
      else
        with {:ok, text} <- Outputs.base64(output, caller), do: {:ok, %{"b64_json" => text}}
      end
    end)
  end

  # Spread over the run: of k pictures the first one at once, the next ones after each k-th of it.
  defp partial({:preview, preview}, sent, wanted, req)
       when sent < wanted and preview.step * wanted >= sent * preview.total do
    Stream.event(req, %{
      "type" => "image_generation.partial_image",
      "b64_json" => Base.encode64(preview.data),
      "partial_image_index" => sent,
      "created_at" => System.system_time(:second),
      "size" => "#{preview.width}x#{preview.height}",
      "output_format" => format(preview.media_type),
      "quality" => "auto",
      "background" => "opaque"
    })

    sent + 1
  end

  defp partial(:silence, sent, _wanted, req) do
    Stream.keepalive(req)
    sent
  end

  defp partial(_other, sent, _wanted, _req), do: sent

  defp completed(job, image) do
    Map.merge(shape(job), %{
      "type" => "image_generation.completed",
      "b64_json" => image,
      "created_at" => seconds(job)
    })
  end

  # What is told of the pictures as they are, whatever was asked for.
  defp shape(job) do
    [%{"meta" => meta, "media_type" => media_type} | _more] = Outputs.of(job, "image/")
    tokens = Outputs.prompt_tokens(job)

    %{
      "size" => "#{meta["width"]}x#{meta["height"]}",
      "output_format" => format(media_type),
      "quality" => "auto",
      "background" => "opaque",
      "usage" => %{
        "input_tokens" => tokens,
        "input_tokens_details" => %{"text_tokens" => tokens, "image_tokens" => 0},
        "output_tokens" => 0,
        "total_tokens" => tokens
      }
    }
  end

  defp format("image/" <> format), do: format
  defp seconds(%{"finished_at" => ms}), do: div(ms, 1000)
end
