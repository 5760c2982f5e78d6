defmodule Koma.HTTP.Artifacts do
  @moduledoc """
  `/v1/artifacts`: bytes in and out, streamed, never whole in memory.

  Downloads go from the disk to the socket by sendfile. What is stored never changes, so answers
  may be kept for ever. As anybody may upload anything, a browser is told not to guess types and
  to run nothing of what it gets (`content-security-policy: sandbox`).
  """

  @behaviour Koma.HTTP.Handler

  alias Koma.{Access, Cluster, Error, Telemetry, Transfer}
  alias Koma.HTTP.{Body, ETag, Multipart, Range, Reply}
  alias Koma.Store.Artifacts

  @extensions %{
    "video/mp4" => "mp4",
    "video/webm" => "webm",
    "video/quicktime" => "mov",
    "image/png" => "png",
    "image/jpeg" => "jpg",
    "image/webp" => "webp",
    "image/gif" => "gif",
    "text/plain" => "txt",
    "application/json" => "json"
  }

  @impl true
  def methods(:collection), do: ["POST"]
  def methods(:item), do: ["GET", "HEAD"]

  @impl true
  def handle(:collection, "POST", req, caller) do
    with {:ok, boundary} <- Multipart.boundary(req),
         :ok <- Access.hold(caller, :uploads),
         {:ok, artifact, status, req} <- receive_file(boundary, req, caller) do
      body = %{
        "id" => artifact.id,
        "bytes" => artifact.bytes,
        "media_type" => artifact.media_type
      }

      headers = %{"location" => "/v1/artifacts/#{artifact.id}"}
      {:ok, Reply.json(req, if(status == :created, do: 201, else: 200), body, headers)}
    end
  end

  def handle(:item, _method, req, caller), do: serve(req, :cowboy_req.binding(:id, req), caller)

  @doc "Answers with the bytes of an artifact, or with the part of them that the request asks for."
  @spec serve(:cowboy_req.req(), id :: String.t(), Koma.Caller.t()) :: Koma.HTTP.Handler.result()
  def serve(req, id, caller) do
    # Renewed for a client that goes on with a range; an open file outlives its name anyway.
    with {:ok, artifact} <- find(id, caller.key) do
      {:ok, send_artifact(req, artifact)}
    end
  end

  # One that another peer has is fetched from it first, and stays here as its copy.
  defp find(id, key) do
    if Cluster.on?(), do: Transfer.find(id, key), else: Artifacts.renew(id, key)
  end

  # The bytes of the file are the body, or a part of the form that is the body.
  defp receive_file(nil, req, caller) do
    with {:ok, media_type} <- media_type(req),
         :ok <- Body.check_length(req, Koma.Options.get().max_upload_bytes),
         {:ok, announced} <- announce(req, caller),
         {:ok, writer} <- Artifacts.open(media_type, caller.key) do
      store(writer, req, receiver(announced, caller))
    end
  end

  defp receive_file(boundary, req, caller) do
    with {:ok, digest} <- announced(req),
         {:ok, %{files: files}, req} <- Multipart.read(req, boundary, caller, digest) do
      case Map.values(files) do
        [%{artifact: artifact, status: status}] -> {:ok, artifact, status, req}
        several_or_none -> {:error, one_file(length(several_or_none))}
      end
    end
  end

  defp one_file(files) do
    message = "The form has #{files} files; an upload is one file: curl -F file=@clip.mp4"
    Error.new("invalid_request", message, field: "body", value: files, bound: 1)
  end

  defp media_type(req) do
    case :cowboy_req.parse_header("content-type", req) do
      # An envelope with the file in it: stored as it is, nothing could read it.
      {"multipart", subtype, _parameters} ->
        type = "multipart/" <> subtype
        message = "An upload is the bytes of one file, or a form (multipart/form-data) with it"
        {:error, Error.new("unsupported_media", message, field: "content-type", value: type)}

      {type, subtype, _parameters} ->
        {:ok, type <> "/" <> subtype}

      :undefined ->
        message = "An upload needs a content-type, such as video/mp4."
        {:error, Error.new("unsupported_media", message, field: "content-type")}
    end
  end

  # A body of known length is refused before any of it is read.
  defp announce(req, caller) do
    case :cowboy_req.body_length(req) do
      :undefined -> {:ok, false}
      bytes -> with :ok <- Access.receive_bytes(caller, bytes), do: {:ok, true}
    end
  end

  defp receiver(true, _caller), do: &Artifacts.write(&2, &1)

  defp receiver(false, caller) do
    fn data, writer ->
      with :ok <- Access.receive_bytes(caller, byte_size(data)), do: Artifacts.write(writer, data)
    end
  end

  defp store(writer, req, receiver) do
    case Body.fold(req, writer, receiver) do
      {:ok, %{bytes: 0} = writer, _req} ->
        :ok = Artifacts.abort(writer)
        {:error, Error.new("invalid_media", "The body is empty.", field: "body", value: 0)}

      {:ok, writer, req} ->
        commit(writer, req)

      {:error, error} ->
        :ok = Artifacts.abort(writer)
        {:error, error}
    end
  end

  defp commit(writer, req) do
    with {:ok, digest} <- announced(req),
         {:ok, artifact, status} <- Artifacts.commit(writer, digest) do
      {:ok, artifact, status, req}
    end
  end

  defp announced(req) do
    case :cowboy_req.header("x-content-sha256", req) do
      :undefined -> {:ok, nil}
      digest -> {:ok, String.downcase(digest)}
    end
  end

  defp send_artifact(req, artifact) do
    tag = ETag.of(artifact.id)
    headers = artifact |> headers(tag) |> Reply.secure()

    if ETag.listed?(header(req, "if-none-match"), tag) do
      :cowboy_req.reply(304, Map.delete(headers, "content-type"), req)
    else
      send_part(req, artifact, headers, range(req, artifact, tag))
    end
  end

  defp range(req, artifact, tag) do
    if ETag.range_valid?(header(req, "if-range"), tag),
      do: Range.parse(header(req, "range"), artifact.bytes),
      else: :whole
  end

  defp send_part(req, artifact, headers, :whole) do
    count_read(req, artifact, artifact.bytes)
    :cowboy_req.reply(200, headers, {:sendfile, 0, artifact.bytes, artifact.path}, req)
  end

  defp send_part(req, artifact, headers, {:ok, {offset, length}}) do
    part = "bytes #{offset}-#{offset + length - 1}/#{artifact.bytes}"
    headers = Map.put(headers, "content-range", part)
    count_read(req, artifact, length)
    :cowboy_req.reply(206, headers, {:sendfile, offset, length, artifact.path}, req)
  end

  defp send_part(req, artifact, _headers, :unsatisfiable) do
    message = "The range lies outside of the #{artifact.bytes} bytes of this artifact."
    details = [field: "range", value: header(req, "range"), bound: artifact.bytes]
    error = Error.new("range_not_satisfiable", message, details)
    Reply.error(req, error, %{"content-range" => "bytes */#{artifact.bytes}"})
  end

  defp count_read(req, artifact, bytes) do
    if :cowboy_req.method(req) == "GET" do
      Telemetry.execute([:koma, :artifact, :read], %{bytes: bytes}, %{id: artifact.id})
    end

    :ok
  end

  defp headers(artifact, tag) do
    %{
      "accept-ranges" => "bytes",
      "cache-control" => forever(),
      "content-disposition" => disposition(artifact),
      "content-security-policy" => "default-src 'none'; sandbox",
      "content-type" => artifact.media_type,
      "etag" => tag
    }
  end

  # Where callers have keys, no cache on the way may answer one with what is another's.
  defp forever do
    whose = if Access.keys?(), do: "private", else: "public"
    whose <> ", max-age=31536000, immutable"
  end

  # The name is made of the id, never of what somebody sent.
  defp disposition(%{id: id, media_type: media_type}) do
    name = "koma-#{String.slice(id, 0, 12)}"

    case @extensions do
      %{^media_type => extension} -> ~s(inline; filename="#{name}.#{extension}")
      _unknown -> ~s(attachment; filename="#{name}.bin")
    end
  end

  defp header(req, name), do: :cowboy_req.header(name, req, nil)
end
