defmodule Koma.OpenAI.VideoForm do
  @moduledoc """
  The request of a video, as a form (so OpenAI's clients send it) or as JSON, with the names of
  OpenAI (`size`, `seconds`, `input_reference`) and of vLLM-Omni (`num_frames`,
  `num_inference_steps`), or with the model's own.
  """

  alias Koma.{Access, Caller, Error, Shown}
  alias Koma.HTTP.{Body, Multipart}
  alias Koma.OpenAI.Request

  @names %{"num_frames" => "frames", "num_inference_steps" => "steps"}
  @reference "input_reference"

  @doc "The fields of the request; the picture is the id of an artifact or a `data:` URI."
  @spec read(:cowboy_req.req(), Caller.t()) ::
          {:ok, map, :cowboy_req.req()} | {:error, Error.t()}
  def read(req, caller) do
    case Multipart.boundary(req) do
      {:ok, nil} -> Body.work(req)
      {:ok, boundary} -> read_form(req, boundary, caller)
      {:error, error} -> {:error, error}
    end
  end

  defp read_form(req, boundary, caller) do
    with :ok <- Access.hold(caller, :uploads),
         {:ok, %{fields: fields, files: files}, req} <- Multipart.read(req, boundary, caller) do
      files = for {name, %{artifact: %{id: id}}} <- files, into: %{}, do: {name, id}
      {:ok, fields |> Map.merge(files) |> Map.put("form", true) |> Body.named(req), req}
    end
  end

  @doc "Submits the job; it goes on when the client is gone, because clients come back to ask."
  @spec submit(map, task :: String.t(), Caller.t()) :: {:ok, job :: map} | {:error, Error.t()}
  def submit(body, task, caller) do
    {form?, body} = Map.pop(body, "form", false)

    with {:ok, request} <- Request.new(body, task, @names),
         request = if(form?, do: Request.read_texts(request), else: request),
         {:ok, request} <- Request.put_size(request, body["size"]),
         {:ok, request} <- put_seconds(request, body["seconds"]),
         {:ok, request} <- put_picture(request, picture(body)) do
      request = Request.put(request, "thumbnail", true, "thumbnail")

      with {:error, error} <- Koma.submit(Map.put(request.job, "on_disconnect", "keep"), caller),
           do: {:error, Request.renamed(request.named, error)}
    end
  end

  # The number of frames that comes nearest, of those that the model can make.
  defp put_seconds(%Request{job: %{"params" => %{"frames" => _given}}} = request, _seconds),
    do: {:ok, request}

  defp put_seconds(request, seconds) when seconds in [nil, ""], do: {:ok, request}

  defp put_seconds(request, seconds) do
    case number(seconds) do
      {:ok, seconds} when seconds > 0 ->
        frames = seconds * (request.job["params"]["fps"] || default(request, "fps"))
        {:ok, Request.put(request, "frames", nearest(request, frames), "seconds")}

      _none ->
        message = "seconds must be a number above 0, not #{Shown.text(seconds)}"
        {:error, Error.new("invalid_value", message, field: "seconds", value: seconds)}
    end
  end

  defp nearest(request, frames) do
    case Request.property(request, "frames") do
      # Twice the longest clip is no longer what was asked for: the schema refuses it.
      %{"enum" => [_ | _] = counts} ->
        if frames > 2 * Enum.max(counts),
          do: round(frames),
          else: Enum.min_by(counts, &abs(&1 - frames))

      _any_number ->
        round(frames)
    end
  end

  defp default(request, name), do: (Request.property(request, name) || %{})["default"] || 1

  defp number(value) when is_number(value), do: {:ok, value}

  defp number(text) when is_binary(text) do
    case Float.parse(text) do
      {number, ""} -> {:ok, number}
      _none -> :error
    end
  end

  defp number(_other), do: :error

  # A file of a form, or what JSON and `extra_body` have for it.
  defp picture(body) do
    body["#{@reference}[image_url]"] || body["#{@reference}[file_id]"] || given(body[@reference])
  end

  defp given(%{"image_url" => url}), do: url
  defp given(%{"file_id" => id}), do: id
  defp given(other), do: other

  defp put_picture(request, picture) when picture in [nil, ""], do: {:ok, request}

  defp put_picture(%Request{spec: %{inputs: inputs}} = request, picture) do
    case Enum.find(inputs, fn {_name, input} -> "image/png" in input.media_types end) do
      {name, _input} ->
        named = Map.put(request.named, "inputs.#{name}", @reference)
        {:ok, %{request | job: Map.put(request.job, "inputs", %{name => picture}), named: named}}

      nil ->
        message = "This model takes no picture"
        {:error, Error.new("unknown_field", message, field: @reference)}
    end
  end
end
