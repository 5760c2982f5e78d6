defmodule Koma.Job.Attachment do
  @moduledoc """
  A file that comes inside of a request, as a `data:` URI where the id of an artifact may stand.
  It is stored as an upload is, with the same bounds and quotas, and its id takes its place.
  """

  alias Koma.{Access, Caller, Error}
  alias Koma.Store.{Artifacts, DataURI, MediaType}

  @doc "Whether a value is a file that comes with the request."
  @spec attached?(term) :: boolean
  def attached?(value), do: is_binary(value) and String.starts_with?(value, "data:")

  @doc """
  Stores the file and returns the id of its artifact. With a list of media types, one that is of
  none of them is refused before it is stored.
  """
  @spec store(String.t(), field :: String.t(), media_types :: [String.t()] | nil, Caller.t()) ::
          {:ok, id :: String.t()} | {:error, Error.t()}
  def store(uri, field, media_types, caller) do
    with {:ok, claimed, bytes} <- decode(uri, field),
         :ok <- check_type(MediaType.sniff(bytes, claimed), field, media_types),
         {:ok, artifact} <- keep(bytes, claimed, caller) do
      {:ok, artifact.id}
    else
      {:error, %Error{field: nil} = error} -> {:error, %Error{error | field: field}}
      {:error, error} -> {:error, error}
    end
  end

  defp decode(uri, field) do
    case DataURI.decode(uri) do
      {:ok, _claimed, ""} ->
        {:error, Error.new("invalid_media", "#{field} is empty", field: field, value: uri)}

      {:ok, claimed, bytes} ->
        {:ok, claimed, bytes}

      :error ->
        message = "#{field} is no data: URI; one looks like data:image/png;base64,iVBORw0K…"
        {:error, Error.new("invalid_value", message, field: field, value: uri)}
    end
  end

  @doc "Whether an input of these media types takes a file of this one."
  @spec check_type(String.t(), field :: String.t(), media_types :: [String.t()] | nil) ::
          :ok | {:error, Error.t()}
  def check_type(_media_type, _field, nil), do: :ok

  def check_type(media_type, field, media_types) do
    if media_type in media_types do
      :ok
    else
      allowed = Enum.join(media_types, ", ")
      message = "#{field} is #{MediaType.name(media_type)}; it must be one of #{allowed}"
      details = [field: field, value: media_type, bound: media_types]
      {:error, Error.new("unsupported_media", message, details)}
    end
  end

  # A process of its own: what a key has on the way counts against it until the process ends, and
  # the one that asks may be a socket that lives for days.
  defp keep(bytes, media_type, %Caller{key: key} = caller) do
    fn ->
      with :ok <- Access.receive_bytes(caller, byte_size(bytes)),
           {:ok, writer} <- Artifacts.open(media_type, key),
           {:ok, writer} <- write(writer, bytes),
           {:ok, artifact, _status} <- Artifacts.commit(writer, nil),
           do: {:ok, artifact}
    end
    |> Task.async()
    |> Task.await(:infinity)
  end

  defp write(writer, bytes) do
    with {:error, error} <- Artifacts.write(writer, bytes) do
      :ok = Artifacts.abort(writer)
      {:error, error}
    end
  end
end
