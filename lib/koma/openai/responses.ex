defmodule Koma.OpenAI.Responses do
  @moduledoc """
  `/v1/responses`: the same questions as those of chat completions, in the newer form. Responses are
  not kept: every request brings its whole conversation.
  """

  @behaviour Koma.HTTP.Handler

  alias Koma.{Error, Params}
  alias Koma.HTTP.{Body, Reply}
  alias Koma.OpenAI.{Answer, Chat, Conversation, Refusal, Run, Stream}

  @options %{"stream" => {:boolean, false}, "instructions" => {:string, nil}}

  @impl true
  def methods(:create), do: ["POST"]

  @impl true
  defdelegate refuse(req, error, headers), to: Refusal, as: :reply

  @impl true
  def handle(:create, "POST", req, caller) do
    host = :cowboy_req.header("host", req, "")

    with {:ok, body, req} <- Body.work(req),
         {:ok, options} <- Params.check(Map.take(body, Map.keys(@options)), @options),
         :ok <- check_alone(body["previous_response_id"]),
         {:ok, conversation} <- Conversation.read(body["input"], "input", host),
         conversation = Conversation.instruct(conversation, options["instructions"]),
         {:ok, run} <- Chat.ask(body, conversation, "input", caller) do
      {:stream, fn -> answer(options, run, req) end}
    end
  end

  defp check_alone(nil), do: :ok

  defp check_alone(id) do
    message = "Responses are not kept; send the whole conversation as input"
    {:error, Error.new("invalid_value", message, field: "previous_response_id", value: id)}
  end

  defp answer(%{"stream" => false} = options, run, req) do
    :ok = :cowboy_req.cast({:set_options, %{idle_timeout: :infinity}}, req)
    headers = %{"x-request-id" => run.id}

    case Run.await(run) do
      {:ok, job} -> Reply.json(req, 200, completed(run, options, job), headers)
      {:error, error} -> Refusal.reply(req, error, headers)
    end
  end

  # The events are numbered through; `number` is that of the next one.
  defp answer(%{"stream" => true} = options, run, req) do
    req = Stream.begin(req, run)
    begun = %{"response" => response(run, options, "in_progress")}
    number = tell(req, 0, "response.created", begun)
    number = tell(req, number, "response.in_progress", begun)
    item = %{"output_index" => 0, "item" => message(run, "in_progress", [])}
    number = tell(req, number, "response.output_item.added", item)
    part = Map.put(place(run), "part", text_part(""))
    number = tell(req, number, "response.content_part.added", part)

    case Run.fold(run, {number, Answer.new()}, &grow(&1, &2, run, req)) do
      {:ok, job, {number, answer}} ->
        number = say(req, number, run, Answer.rest(answer, job))
        finish(req, number, run, options, job)

      {:error, error, {number, _answer}} ->
        fail(req, number, run, options, error)
    end

    Stream.close(req)
  end

  defp grow({:event, event}, {number, answer}, run, req) do
    {text, answer} = Answer.grow(answer, event)
    {say(req, number, run, text), answer}
  end

  defp grow(:silence, acc, _run, req) do
    Stream.keepalive(req)
    acc
  end

  defp grow(_preview, acc, _run, _req), do: acc

  defp say(_req, number, _run, ""), do: number

  defp say(req, number, run, text) do
    delta = Map.merge(place(run), %{"delta" => text, "logprobs" => []})
    tell(req, number, "response.output_text.delta", delta)
  end

  defp finish(req, number, run, options, job) do
    text = Answer.text(job)
    done = Map.merge(place(run), %{"text" => text, "logprobs" => []})
    number = tell(req, number, "response.output_text.done", done)
    part = Map.put(place(run), "part", text_part(text))
    number = tell(req, number, "response.content_part.done", part)
    item = %{"output_index" => 0, "item" => message(run, "completed", [text_part(text)])}
    number = tell(req, number, "response.output_item.done", item)
    response = completed(run, options, job)
    tell(req, number, "response.#{response["status"]}", %{"response" => response})
  end

  defp fail(req, number, run, options, error) do
    told = %{"code" => Refusal.code(error), "message" => error.message}
    response = run |> response(options, "failed") |> Map.put("error", told)
    tell(req, number, "response.failed", %{"response" => response})
  end

  defp tell(req, number, type, event) do
    Stream.event(req, Map.merge(event, %{"type" => type, "sequence_number" => number}))
    number + 1
  end

  defp place(run), do: %{"item_id" => "msg_" <> run.id, "output_index" => 0, "content_index" => 0}

  defp text_part(text) do
    %{"type" => "output_text", "text" => text, "annotations" => [], "logprobs" => []}
  end

  defp message(run, status, content) do
    %{
      "id" => "msg_" <> run.id,
      "type" => "message",
      "role" => "assistant",
      "status" => status,
      "content" => content
    }
  end

  defp completed(run, options, job) do
    cut? = Answer.cut?(job)
    {read, made} = {Answer.tokens_read(job), Answer.tokens(job)}
    status = if cut?, do: "incomplete", else: "completed"

    run
    |> response(options, status)
    |> Map.merge(%{
      "output" => [message(run, status, [text_part(Answer.text(job))])],
      "incomplete_details" => if(cut?, do: %{"reason" => "max_output_tokens"}),
      "usage" => %{
        "input_tokens" => read,
        "input_tokens_details" => %{"cached_tokens" => 0, "cache_write_tokens" => 0},
        "output_tokens" => made,
        "output_tokens_details" => %{"reasoning_tokens" => 0},
        "total_tokens" => read + made
      }
    })
  end

  defp response(%Run{id: id, job: job}, options, status) do
    %{
      "id" => "resp_" <> id,
      "object" => "response",
      "created_at" => div(job["created_at"], 1000),
      "status" => status,
      "model" => job["model"],
      "output" => [],
      "parallel_tool_calls" => true,
      "tool_choice" => "auto",
      "tools" => [],
      "error" => nil,
      "incomplete_details" => nil,
      "instructions" => options["instructions"],
      "metadata" => %{},
      "temperature" => job["params"]["temperature"],
      "top_p" => job["params"]["top_p"],
      "usage" => nil
    }
  end
end
