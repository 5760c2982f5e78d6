defmodule Koma.OpenAI.Refusal do
  @moduledoc """
  Errors in the shape that OpenAI's clients read: `{"error": {message, type, param, code}}`, with
  Koma's own fields beside them (`value`, `bound`, `retry_after_ms`). Pure but for `reply/3`.
  """

  alias Koma.Error
  alias Koma.HTTP.Reply

  # Programs that were written for OpenAI compare these; every other code is Koma's.
  @codes %{
    "unknown_model" => "model_not_found",
    "unauthorized" => "invalid_api_key",
    "quota_exceeded" => "insufficient_quota",
    "rate_limited" => "rate_limit_exceeded"
  }

  @doc "The answer to a request that is refused or has failed."
  @spec reply(:cowboy_req.req(), Error.t(), headers :: map) :: :cowboy_req.req()
  def reply(req, %Error{} = error, headers) do
    status = Error.status(error.code)
    Reply.json(req, status, body(error), Map.merge(headers, Reply.headers(error)))
  end

  @doc "The body of such an answer, and of an error inside of a stream."
  @spec body(Error.t()) :: map
  def body(%Error{} = error) do
    told = error |> Error.to_map() |> Map.delete("field")

    %{
      "error" =>
        Map.merge(told, %{
          "type" => type(Error.status(error.code), error.code),
          "code" => code(error),
          "param" => error.field
        })
    }
  end

  @doc """
  The same for a route that Koma's own clients ask as well: codes and fields are Koma's, `type` and
  `param` are added.
  """
  @spec shared(:cowboy_req.req(), Error.t(), headers :: map) :: :cowboy_req.req()
  def shared(req, %Error{} = error, headers) do
    status = Error.status(error.code)
    more = %{"type" => type(status, error.code), "param" => error.field}
    body = %{"error" => error |> Error.to_map() |> Map.merge(more)}
    Reply.json(req, status, body, Map.merge(headers, Reply.headers(error)))
  end

  @doc "The code as programs know it that were written for OpenAI."
  @spec code(Error.t()) :: String.t()
  def code(%Error{code: code}), do: Map.get(@codes, code, code)

  @doc "The error of a job that has ended without a result, as its record tells it."
  @spec of_job(map) :: Error.t()
  def of_job(%{"error" => %{"code" => code, "message" => message} = told}) do
    %Error{
      code: if(Error.known?(code), do: code, else: "internal"),
      message: message,
      field: told["field"],
      value: told["value"],
      bound: told["bound"]
    }
  end

  defp type(_status, "quota_exceeded"), do: "insufficient_quota"
  defp type(429, _code), do: "rate_limit_error"
  defp type(status, _code) when status >= 500, do: "server_error"
  defp type(_status, _code), do: "invalid_request_error"
end
