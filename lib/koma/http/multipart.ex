defmodule Koma.HTTP.Multipart do
  @moduledoc """
  Forms with files (RFC 7578), as `curl -F` and OpenAI's clients send them. They are read piece by
  piece within the bounds and the least rate of `Koma.HTTP.Body`: a field is kept in memory, the
  bytes of a file go straight into the artifact store.
  """

  alias Koma.{Access, Caller, Error, Options}
  alias Koma.HTTP.Body
  alias Koma.Store.Artifacts

  @max_parts 64
  # What curl and OpenAI's clients write before a part has some hundred bytes.
  @max_head_bytes 8 * 1024
  # Prompts, and a small picture as a data: URI.
  @max_field_bytes 1024 * 1024
  # All that is around the files.
  @overhead_bytes 4 * 1024 * 1024

  @enforce_keys [:boundary, :caller, :announced, :digest]
  defstruct @enforce_keys ++ [:part, buffer: "", fields: %{}, files: %{}, parts: 0]

  @typedoc "The text fields, and the artifacts of the files, by name. Of repeated names the last one counts."
  @type form :: %{
          fields: %{String.t() => String.t()},
          files: %{String.t() => %{artifact: Artifacts.artifact(), status: :created | :existed}}
        }

  @doc "The boundary of a form; nil where the body is none."
  @spec boundary(:cowboy_req.req()) :: {:ok, String.t() | nil} | {:error, Error.t()}
  def boundary(req) do
    case :cowboy_req.parse_header("content-type", req) do
      {"multipart", "form-data", parameters} ->
        case List.keyfind(parameters, "boundary", 0) do
          {"boundary", boundary} when boundary != "" -> {:ok, boundary}
          _absent -> {:error, malformed("it names no boundary")}
        end

      _other ->
        {:ok, nil}
    end
  end

  @doc "Reads a form; its files are stored when this returns, and have the digest, if one is given."
  @spec read(:cowboy_req.req(), boundary :: String.t(), Caller.t(), digest :: String.t() | nil) ::
          {:ok, form, :cowboy_req.req()} | {:error, Error.t()}
  def read(req, boundary, caller, digest \\ nil) do
    with :ok <- Body.check_length(req, Options.get().max_upload_bytes + @overhead_bytes),
         {:ok, announced?} <- announce(req, caller),
         {:ok, state, req} <-
           fold(req, %__MODULE__{
             boundary: boundary,
             caller: caller,
             announced: announced?,
             digest: digest
           }),
         :ok <- whole(state) do
      {:ok, %{fields: state.fields, files: state.files}, req}
    end
  end

  # A body of known length counts against what the key may store before any of it is read.
  defp announce(req, caller) do
    case :cowboy_req.body_length(req) do
      :undefined -> {:ok, false}
      bytes -> with :ok <- Access.receive_bytes(caller, bytes), do: {:ok, true}
    end
  end

  defp fold(req, state) do
    Body.fold(req, state, fn data, state -> go_on(%{state | buffer: state.buffer <> data}) end)
  catch
    :error, reason ->
      # Cowlib's reader has no clause for bytes that are no form.
      if reader?(__STACKTRACE__),
        do: {:error, malformed("the head of a part cannot be read")},
        else: :erlang.raise(:error, reason, __STACKTRACE__)
  end

  defp reader?(stacktrace) do
    stacktrace |> Enum.take(3) |> Enum.any?(&match?({:cow_multipart, _, _, _}, &1))
  end

  defp whole(%__MODULE__{part: :ended}), do: :ok

  defp whole(%__MODULE__{part: part}) do
    with {:file, _name, writer} <- part, do: :ok = Artifacts.abort(writer)
    {:error, malformed("it ends before its last boundary")}
  end

  # --- between parts

  defp go_on(%__MODULE__{part: :ended} = state), do: {:ok, %{state | buffer: ""}}

  defp go_on(%__MODULE__{part: nil, buffer: buffer, boundary: boundary} = state) do
    case :cow_multipart.parse_headers(buffer, boundary) do
      {:ok, headers, rest} -> begin(headers, %{state | buffer: rest})
      {:done, _epilogue} -> {:ok, %{state | part: :ended, buffer: ""}}
      {:more, rest} -> waiting(%{state | buffer: rest})
      :more -> waiting(state)
    end
  end

  # --- inside of a part

  defp go_on(%__MODULE__{buffer: buffer, boundary: boundary} = state) do
    case :cow_multipart.parse_body(buffer, boundary) do
      {:ok, body} -> add(%{state | buffer: ""}, body)
      {:ok, body, rest} -> add(%{state | buffer: rest}, body)
      :done -> finish(state, "")
      {:done, body} -> finish(%{state | buffer: ""}, body)
      {:done, body, rest} -> finish(%{state | buffer: rest}, body)
    end
  end

  defp waiting(%__MODULE__{buffer: buffer} = state) do
    if byte_size(buffer) <= @max_head_bytes,
      do: {:ok, state},
      else: {:error, malformed("the head of a part has more than #{@max_head_bytes} bytes")}
  end

  defp begin(_headers, %__MODULE__{parts: @max_parts}) do
    message = "A form has at most #{@max_parts} parts"
    {:error, Error.new("too_large", message, field: "body", bound: @max_parts)}
  end

  defp begin(headers, state) do
    state = %{state | parts: state.parts + 1}

    case :cow_multipart.form_data(Map.new(headers)) do
      {:data, name} ->
        go_on(%{state | part: {:field, name, [], 0}})

      {:file, name, _filename, media_type} ->
        with {:ok, writer} <- Artifacts.open(media_type(media_type), state.caller.key),
             do: go_on(%{state | part: {:file, name, writer}})
    end
  end

  # The parameters of a type, such as a charset, say nothing about a file here.
  defp media_type(told),
    do: told |> String.split(";") |> hd() |> String.trim() |> String.downcase()

  defp add(state, ""), do: {:ok, state}

  defp add(%__MODULE__{part: {:field, name, chunks, bytes}} = state, body) do
    bytes = bytes + byte_size(body)

    if bytes <= @max_field_bytes do
      {:ok, %{state | part: {:field, name, [chunks, body], bytes}}}
    else
      message = "The field #{Koma.Shown.text(name)} has more than #{@max_field_bytes} bytes"
      {:error, Error.new("too_large", message, field: name, bound: @max_field_bytes)}
    end
  end

  defp add(%__MODULE__{part: {:file, name, writer}} = state, body) do
    with :ok <- count(state, body),
         {:ok, writer} <- Artifacts.write(writer, body) do
      {:ok, %{state | part: {:file, name, writer}}}
    else
      {:error, error} ->
        :ok = Artifacts.abort(writer)
        {:error, error}
    end
  end

  defp count(%__MODULE__{announced: true}, _body), do: :ok
  defp count(state, body), do: Access.receive_bytes(state.caller, byte_size(body))

  defp finish(state, body) do
    with {:ok, state} <- add(state, body),
         {:ok, state} <- close(state),
         do: go_on(%{state | part: nil})
  end

  defp close(%__MODULE__{part: {:field, name, chunks, _bytes}} = state) do
    {:ok, %{state | fields: Map.put(state.fields, name, IO.iodata_to_binary(chunks))}}
  end

  defp close(%__MODULE__{part: {:file, name, %{bytes: 0} = writer}}) do
    :ok = Artifacts.abort(writer)
    message = "The file #{Koma.Shown.text(name)} is empty"
    {:error, Error.new("invalid_media", message, field: name, value: 0)}
  end

  defp close(%__MODULE__{part: {:file, name, writer}} = state) do
    with {:ok, artifact, status} <- Artifacts.commit(writer, state.digest) do
      {:ok, %{state | files: Map.put(state.files, name, %{artifact: artifact, status: status})}}
    end
  end

  defp malformed(why) do
    Error.new("invalid_request", "The body is no form (multipart/form-data): #{why}",
      field: "body"
    )
  end
end
