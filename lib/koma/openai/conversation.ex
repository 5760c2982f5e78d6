defmodule Koma.OpenAI.Conversation do
  @moduledoc """
  What a model is asked in a conversation: the text of the user's last turn, after what the system
  says, and the picture or clip that the conversation is about.

  The models here answer one question about one file, so that earlier answers are not read. The file
  may come from an earlier turn, because clients send it only once.
  """

  alias Koma.{Each, Error, Shown}
  alias Koma.Job.Attachment
  alias Koma.OpenAI.{Outputs, Request}
  alias Koma.Store.{DataURI, MediaType}

  @enforce_keys [:prompt, :files]
  defstruct [:prompt, :files]

  @typedoc "`files` are `data:` URIs or ids of artifacts, each once."
  @type t :: %__MODULE__{prompt: String.t() | nil, files: [String.t()]}

  @texts ~w(text input_text output_text)
  @known ~w(text image_url video_url file input_text input_image input_file)

  @doc """
  Reads the messages of a request, which the client calls `field`. `host` is the name by which it
  reached this server: addresses of its own artifacts are understood.
  """
  @spec read(term, field :: String.t(), host :: String.t()) :: {:ok, t} | {:error, Error.t()}
  def read(text, _field, _host) when is_binary(text) and text != "" do
    {:ok, %__MODULE__{prompt: text, files: []}}
  end

  def read([_ | _] = messages, field, host) do
    with {:ok, turns} <- Each.map(Enum.with_index(messages), &turn(&1, field, host)),
         :ok <- check_user(turns, field) do
      files = for %{files: files} <- turns, file <- files, uniq: true, do: file
      {:ok, %__MODULE__{prompt: prompt(turns), files: files}}
    end
  end

  def read(other, field, _host) do
    message = "#{field} must be a list of messages that is not empty"
    {:error, Error.new("wrong_type", message, field: field, value: other)}
  end

  @doc "What the system says goes before the prompt."
  @spec instruct(t, String.t() | nil) :: t
  def instruct(conversation, text) when text in [nil, ""], do: conversation

  def instruct(%__MODULE__{prompt: prompt} = conversation, text) do
    %__MODULE__{conversation | prompt: joined([text, prompt || ""])}
  end

  defp check_user(turns, field) do
    if Enum.any?(turns, &(&1.role == "user")) do
      :ok
    else
      {:error, Error.new("missing_field", "#{field} has no message of the user", field: field)}
    end
  end

  defp prompt(turns) do
    system = for %{role: role, text: text} <- turns, role in ~w(system developer), do: text
    last = turns |> Enum.filter(&(&1.role == "user")) |> List.last()
    joined(system ++ [last.text])
  end

  defp joined(texts) do
    case texts |> Enum.reject(&(&1 == "")) |> Enum.join("\n\n") do
      "" -> nil
      text -> text
    end
  end

  defp turn({%{"role" => role} = message, index}, field, host) when is_binary(role) do
    path = "#{field}[#{index}].content"

    with {:ok, parts} <- parts(message["content"], path),
         {:ok, parts} <- Each.map(Enum.with_index(parts), &part(&1, path, host)) do
      text = for({:text, text} <- parts, do: text) |> Enum.join("\n")
      {:ok, %{role: role, text: text, files: for({:file, file} <- parts, do: file)}}
    end
  end

  defp turn({other, index}, field, _host) do
    path = "#{field}[#{index}]"
    message = "#{path} must be an object with role and content"
    {:error, Error.new("wrong_type", message, field: path, value: other)}
  end

  # A turn of the assistant that called a tool has none.
  defp parts(nil, _path), do: {:ok, []}
  defp parts(text, _path) when is_binary(text), do: {:ok, [%{"type" => "text", "text" => text}]}
  defp parts(parts, _path) when is_list(parts), do: {:ok, parts}

  defp parts(other, path) do
    message = "#{path} must be a text or a list of parts"
    {:error, Error.new("wrong_type", message, field: path, value: other)}
  end

  defp part({%{"type" => type, "text" => text}, _index}, _path, _host)
       when type in @texts and is_binary(text),
       do: {:ok, {:text, text}}

  defp part({%{"type" => type} = part, index}, path, host) when type in @known do
    with {:ok, file} <- file(address(part), "#{path}[#{index}]", host), do: {:ok, {:file, file}}
  end

  defp part({other, index}, path, _host) do
    path = "#{path}[#{index}].type"
    type = if is_map(other), do: other["type"]
    message = "#{path} must be one of #{Enum.join(@known, ", ")}"
    {:error, Error.new("invalid_value", message, field: path, value: type, bound: @known)}
  end

  # Where each kind of part has its file.
  defp address(%{"type" => "image_url", "image_url" => given}), do: url(given)
  defp address(%{"type" => "input_image", "image_url" => given}), do: url(given)
  defp address(%{"type" => "video_url", "video_url" => given}), do: url(given)
  defp address(%{"type" => "file", "file" => %{} = file}), do: address(Map.put(file, "type", ""))
  defp address(%{"file_data" => data}), do: data
  defp address(%{"file_id" => id}), do: id
  defp address(_none), do: nil

  defp url(%{"url" => url}), do: url
  defp url(url), do: url

  defp file(file, path, host) when is_binary(file) do
    if Attachment.attached?(file), do: {:ok, file}, else: artifact(file, path, host)
  end

  defp file(other, path, _host) do
    message = "#{path} has no file: it needs a data: URI"
    {:error, Error.new("missing_field", message, field: path, value: other)}
  end

  # An artifact of this server, by its id or by the address that an answer had.
  defp artifact(file, path, host) do
    with [_all, server, id] <-
           Regex.run(~r"\A(?:(?:https?://([^/]+))?/v1/artifacts/)?([0-9a-f]{64})\z", file),
         true <- server in ["", host] do
      {:ok, id}
    else
      _another ->
        message =
          "#{path} is #{Shown.text(file)}; it must be a data: URI or an artifact of this server, " <>
            "because nothing is fetched from other servers"

        {:error, Error.new("invalid_value", message, field: path, value: file)}
    end
  end

  @doc "Puts the conversation into the request of a job, under the names that the task has for it."
  @spec put(Request.t(), t, field :: String.t(), Koma.Caller.t()) ::
          {:ok, Request.t()} | {:error, Error.t()}
  def put(request, %__MODULE__{prompt: prompt, files: files}, field, caller) do
    request = if prompt, do: Request.put(request, "prompt", prompt, field), else: request
    named = Map.new(request.spec.inputs, fn {name, _input} -> {"inputs.#{name}", field} end)
    request = %{request | named: Map.merge(request.named, named)}

    case files do
      [] -> {:ok, request}
      [file] -> put_file(request, file, field, caller)
      several -> {:error, too_many(length(several), field)}
    end
  end

  defp too_many(count, field) do
    message = "#{field} has #{count} pictures and clips; the model looks at one"
    Error.new("out_of_bounds", message, field: field, value: count, bound: 1)
  end

  defp put_file(%Request{spec: %{inputs: inputs}} = request, file, field, caller) do
    with {:ok, media_type} <- media_type(file, field, caller) do
      case Enum.find(inputs, fn {_name, input} -> media_type in input.media_types end) do
        {name, _input} ->
          {:ok, %{request | job: Map.put(request.job, "inputs", %{name => file})}}

        nil ->
          known =
            inputs |> Enum.flat_map(fn {_name, input} -> input.media_types end) |> Enum.uniq()

          Attachment.check_type(media_type, field, known)
      end
    end
  end

  defp media_type("data:" <> _data = uri, field, _caller) do
    case DataURI.decode(uri) do
      {:ok, claimed, bytes} ->
        {:ok, MediaType.sniff(bytes, claimed)}

      :error ->
        message =
          "#{field} has a broken data: URI; one looks like data:image/png;base64,iVBORw0K…"

        {:error, Error.new("invalid_value", message, field: field, value: uri)}
    end
  end

  defp media_type(id, field, caller) do
    case Outputs.find(id, caller.key) do
      {:ok, artifact} -> {:ok, artifact.media_type}
      {:error, error} -> {:error, %Error{error | field: field}}
    end
  end
end
