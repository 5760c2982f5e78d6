defmodule Koma.Channel.Jobs do
  @moduledoc "Topic `jobs`: submit and cancel jobs and pipelines."

  @behaviour Koma.Channel

  alias Koma.Channel.Limits
  alias Koma.{Caller, Error, Params}

  @id %{"id" => {:string, :required}}

  @impl true
  @spec join(nil, term, Caller.t()) ::
          {:ok, map, [Koma.Channel.push()], Caller.t()} | {:error, Error.t()}
  def join(nil, payload, caller) do
    with {:ok, %{}} <- Params.check(payload, %{}) do
      {:ok, %{"version" => version(), "limits" => limits()}, [], caller}
    end
  end

  @impl true
  @spec handle_in(String.t(), term, Caller.t()) ::
          {:ok, map, Caller.t()} | {:error, Error.t(), Caller.t()}
  def handle_in(event, payload, caller) do
    case answer(event, payload, caller) do
      {:ok, response} -> {:ok, response, caller}
      :ok -> {:ok, %{}, caller}
      {:error, error} -> {:error, error, caller}
    end
  end

  @impl true
  @spec handle_info(term, Caller.t()) :: {[], Caller.t()}
  def handle_info(_message, caller), do: {[], caller}

  defp answer("submit", payload, caller) do
    with :ok <- object(payload), do: Koma.submit(payload, caller)
  end

  defp answer("cancel", payload, caller) do
    with {:ok, %{"id" => id}} <- Params.check(payload, @id), do: Koma.cancel(id, caller)
  end

  defp answer("submit_pipeline", payload, caller) do
    with :ok <- object(payload), do: Koma.Pipeline.submit(payload, caller)
  end

  defp answer("cancel_pipeline", payload, caller) do
    with {:ok, %{"id" => id}} <- Params.check(payload, @id), do: Koma.Pipeline.cancel(id, caller)
  end

  defp answer(event, _payload, _caller) do
    message = "The topic jobs knows submit, cancel, submit_pipeline and cancel_pipeline."
    {:error, Error.new("unknown_event", message, field: "event", value: event)}
  end

  defp object(payload) when is_map(payload), do: :ok

  defp object(_payload) do
    {:error, Error.new("wrong_type", "The payload must be a JSON object.", field: "payload")}
  end

  defp version, do: :koma |> Application.spec(:vsn) |> to_string()

  defp limits do
    %{
      "frame_bytes" => Limits.max_frame_bytes(),
      "topics" => Limits.max_topics(),
      "upload_bytes" => Koma.Options.get().max_upload_bytes
    }
  end
end
