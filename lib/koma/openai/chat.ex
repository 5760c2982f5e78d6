defmodule Koma.OpenAI.Chat do
  @moduledoc "`/v1/chat/completions`: questions about a picture or a clip, at once or word by word."

  @behaviour Koma.HTTP.Handler

  alias Koma.{Error, Params}
  alias Koma.HTTP.{Body, Reply}
  alias Koma.OpenAI.{Answer, Conversation, Refusal, Request, Run, Stream}

  @task "video.understand"
  @options %{
    "stream" => {:boolean, false},
    "stream_options" => {:object, %{}},
    "n" => {{:integer, 1, 1}, 1}
  }

  @impl true
  def methods(:completions), do: ["POST"]

  @impl true
  defdelegate refuse(req, error, headers), to: Refusal, as: :reply

  @impl true
  def handle(:completions, "POST", req, caller) do
    host = :cowboy_req.header("host", req, "")

    with {:ok, body, req} <- Body.work(req),
         {:ok, options} <- Params.check(Map.take(body, Map.keys(@options)), @options),
         {:ok, conversation} <- Conversation.read(body["messages"], "messages", host),
         {:ok, run} <- ask(body, conversation, "messages", caller) do
      {:stream, fn -> answer(options, run, req) end}
    end
  end

  @doc "Asks the model; `field` is where the client has the conversation."
  @spec ask(map, Conversation.t(), field :: String.t(), Koma.Caller.t()) ::
          {:ok, Run.t()} | {:error, Error.t()}
  def ask(body, conversation, field, caller) do
    names =
      Map.new(~w(max_tokens max_completion_tokens max_output_tokens), &{&1, "max_new_tokens"})

    # The question stands in the conversation, and `prompt` has another meaning for OpenAI.
    with {:ok, request} <- Request.new(Map.delete(body, "prompt"), @task, names),
         {:ok, request} <- Conversation.put(request, conversation, field, caller),
         do: request |> Request.lower("max_new_tokens") |> Run.start(caller)
  end

  defp answer(%{"stream" => false}, run, req) do
    :ok = :cowboy_req.cast({:set_options, %{idle_timeout: :infinity}}, req)
    headers = %{"x-request-id" => run.id}

    case Run.await(run) do
      {:ok, job} -> Reply.json(req, 200, whole(run, job), headers)
      {:error, error} -> Refusal.reply(req, error, headers)
    end
  end

  defp answer(%{"stream" => true} = options, run, req) do
    req = Stream.begin(req, run)
    send_delta(req, run, %{"role" => "assistant", "content" => ""})

    case Run.fold(run, Answer.new(), &tell(&1, &2, run, req)) do
      {:ok, job, answer} ->
        say(req, run, Answer.rest(answer, job))
        send_delta(req, run, %{}, reason(job))
        if options["stream_options"]["include_usage"] == true, do: send_usage(req, run, job)
        Stream.done(req)

      {:error, error, _answer} ->
        Stream.error(req, error)
    end

    Stream.close(req)
  end

  defp tell({:event, event}, answer, run, req) do
    {text, answer} = Answer.grow(answer, event)
    say(req, run, text)
    answer
  end

  defp tell(:silence, answer, _run, req) do
    Stream.keepalive(req)
    answer
  end

  defp tell(_preview, answer, _run, _req), do: answer

  defp say(_req, _run, ""), do: :ok
  defp say(req, run, text), do: send_delta(req, run, %{"content" => text})

  defp send_delta(req, run, delta, reason \\ nil) do
    choice = %{"index" => 0, "delta" => delta, "finish_reason" => reason, "logprobs" => nil}
    Stream.data(req, run |> shape("chat.completion.chunk") |> Map.put("choices", [choice]))
  end

  defp send_usage(req, run, job) do
    chunk = run |> shape("chat.completion.chunk") |> Map.put("choices", [])
    Stream.data(req, Map.put(chunk, "usage", usage(job)))
  end

  defp whole(run, job) do
    message = %{"role" => "assistant", "content" => Answer.text(job), "refusal" => nil}

    choice = %{
      "index" => 0,
      "message" => message,
      "finish_reason" => reason(job),
      "logprobs" => nil
    }

    run
    |> shape("chat.completion")
    |> Map.merge(%{"choices" => [choice], "usage" => usage(job)})
  end

  defp shape(%Run{id: id, job: job}, object) do
    %{
      "id" => "chatcmpl-" <> id,
      "object" => object,
      "created" => div(job["created_at"], 1000),
      "model" => job["model"]
    }
  end

  defp reason(job), do: if(Answer.cut?(job), do: "length", else: "stop")

  defp usage(job) do
    {read, made} = {Answer.tokens_read(job), Answer.tokens(job)}
    %{"prompt_tokens" => read, "completion_tokens" => made, "total_tokens" => read + made}
  end
end
