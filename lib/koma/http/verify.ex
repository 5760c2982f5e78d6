defmodule Koma.HTTP.Verify do
  @moduledoc """
  `/v1/verify`: which marks a file bears. The body is the file itself, or JSON that names an artifact.

  A file that is sent here is examined under a temporary name and not kept.
  """

  @behaviour Koma.HTTP.Handler

  alias Koma.{Access, Caller, Error, Options, Provenance}
  alias Koma.HTTP.{Body, Reply}
  alias Koma.Store.{Artifacts, MediaType}

  # A request that names an artifact.
  @max_json_bytes 4 * 1024

  @impl true
  def methods(:collection), do: ["POST"]

  @impl true
  def handle(:collection, "POST", req, caller) do
    case :cowboy_req.parse_header("content-type", req) do
      {"application", "json", _parameters} -> artifact(req, caller)
      _file -> file(req, caller)
    end
  end

  defp artifact(req, caller) do
    with :ok <- Body.check_length(req, @max_json_bytes),
         {:ok, request, req} <- Body.json_object(req),
         {:ok, id} <- named(request),
         {:ok, artifact} <- Artifacts.renew(id, caller.key) do
      answer(req, artifact.path, artifact.media_type, id, caller)
    end
  end

  defp named(%{"artifact" => id}) when is_binary(id), do: {:ok, id}

  defp named(%{"artifact" => other}) do
    {:error, Error.new("wrong_type", "artifact is not a text", field: "artifact", value: other)}
  end

  defp named(_request) do
    message = "The request needs the field artifact, or a file as its body."
    {:error, Error.new("missing_field", message, field: "artifact")}
  end

  defp file(req, caller) do
    with :ok <- Body.check_length(req, Options.get().max_upload_bytes),
         :ok <- Access.hold(caller, :uploads),
         {:ok, writer} <- Artifacts.open("application/octet-stream", caller.key) do
      result = received(req, writer, caller)
      :ok = Artifacts.abort(writer)
      result
    end
  end

  defp received(req, writer, caller) do
    write = fn data, writer ->
      with :ok <- Access.receive_bytes(caller, byte_size(data)), do: Artifacts.write(writer, data)
    end

    case Body.fold(req, writer, write) do
      {:ok, %{bytes: 0}, _req} ->
        {:error, Error.new("invalid_media", "The body is empty.", field: "body", value: 0)}

      {:ok, writer, req} ->
        digest = writer.hash |> :crypto.hash_final() |> Base.encode16(case: :lower)
        media_type = MediaType.sniff(writer.head, "application/octet-stream")
        answer(req, writer.path, media_type, digest, caller)

      {:error, error} ->
        {:error, error}
    end
  end

  defp answer(req, path, media_type, digest, %Caller{} = caller) do
    with {:ok, told} <- Provenance.verify(path, media_type, digest, caller),
         do: {:ok, Reply.json(req, 200, told)}
  end
end
