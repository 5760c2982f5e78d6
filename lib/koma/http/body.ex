defmodule Koma.HTTP.Body do
  @moduledoc """
  Reads the body of a request within its limits: bytes, and a least rate, so that a client that
  sends a byte now and then cannot hold a process here.
  """

  alias Koma.{Error, JSON}

  # Job and pipeline requests; the same bound as a frame of a WebSocket.
  @max_json_bytes 8 * 1024 * 1024
  @chunk_bytes 256 * 1024
  # Each period must bring a chunk, the end, or at least this much (400 bytes a second).
  @period_ms 5_000
  @min_period_bytes 2_000

  @doc "How many bytes the JSON body of a request may have."
  @spec max_json_bytes() :: pos_integer
  def max_json_bytes, do: @max_json_bytes

  @doc "The JSON object in the body of a request with content type `application/json`."
  @spec json_object(:cowboy_req.req()) ::
          {:ok, map, :cowboy_req.req()} | {:error, Error.t()}
  def json_object(req) do
    with :ok <- check_json_type(req),
         :ok <- check_length(req, @max_json_bytes),
         {:ok, chunks, req} <- fold(req, [], &collect/2),
         {:ok, object} <- chunks |> Enum.reverse() |> JSON.decode_object() do
      {:ok, object, req}
    end
  end

  @doc """
  The request of a job or pipeline. Who asks over HTTP may poll: unlike a socket, nobody has to stay for it to
  go on, unless the request says so. The header `Idempotency-Key` is the field `idempotency_key`.
  """
  @spec work(:cowboy_req.req()) :: {:ok, map, :cowboy_req.req()} | {:error, Error.t()}
  def work(req) do
    with {:ok, request, req} <- json_object(req) do
      {:ok, request |> Map.put_new("on_disconnect", "keep") |> named(req), req}
    end
  end

  @doc "The request with the key of the header `Idempotency-Key`, unless it has one of its own."
  @spec named(map, :cowboy_req.req()) :: map
  def named(request, req), do: put_key(request, idempotency_key(req))

  defp put_key(request, nil), do: request
  defp put_key(request, key), do: Map.put_new(request, "idempotency_key", key)

  # The draft has it as a string of structured fields; clients send it bare.
  defp idempotency_key(req) do
    with <<?", quoted::binary>> <- :cowboy_req.header("idempotency-key", req, nil),
         do: String.trim_trailing(quoted, "\"")
  end

  @doc "Refuses a body that announces more than `limit` bytes before any of it is read."
  @spec check_length(:cowboy_req.req(), pos_integer) :: :ok | {:error, Error.t()}
  def check_length(req, limit) do
    case :cowboy_req.body_length(req) do
      bytes when is_integer(bytes) and bytes > limit -> {:error, too_large(bytes, limit)}
      _bytes_or_undefined -> :ok
    end
  end

  @doc "Folds the chunks of the body; `fun` returns `{:ok, acc}` or an error that ends it."
  @spec fold(:cowboy_req.req(), acc, (binary, acc -> {:ok, acc} | {:error, Error.t()})) ::
          {:ok, acc, :cowboy_req.req()} | {:error, Error.t()}
        when acc: term
  def fold(req, acc, fun) do
    case read(req) do
      {:more, data, _req} when byte_size(data) < @min_period_bytes ->
        {:error, too_slow()}

      {status, data, req} ->
        case fun.(data, acc) do
          {:ok, acc} when status == :more -> fold(req, acc, fun)
          {:ok, acc} -> {:ok, acc, req}
          {:error, error} -> {:error, error}
        end
    end
  catch
    :exit, :timeout -> {:error, too_slow()}
  end

  @doc "The error for `bytes` beyond `limit`."
  @spec too_large(pos_integer, pos_integer) :: Error.t()
  def too_large(bytes, limit) do
    message = "The body has #{bytes} bytes; at most #{limit} are taken."
    Error.new("too_large", message, field: "body", value: bytes, bound: limit)
  end

  defp read(req) do
    :cowboy_req.read_body(req, %{
      length: @chunk_bytes,
      period: @period_ms,
      timeout: @period_ms + 1_000
    })
  end

  defp collect(chunk, chunks) do
    chunks = [chunk | chunks]
    bytes = IO.iodata_length(chunks)

    if bytes <= @max_json_bytes,
      do: {:ok, chunks},
      else: {:error, too_large(bytes, @max_json_bytes)}
  end

  defp too_slow do
    message =
      "The body came too slowly: less than #{@min_period_bytes} bytes in #{@period_ms} ms."

    Error.new("request_timeout", message, field: "body", bound: @min_period_bytes)
  end

  defp check_json_type(req) do
    case :cowboy_req.parse_header("content-type", req) do
      {"application", "json", _parameters} ->
        :ok

      _other ->
        message = "The body must be JSON, with content-type application/json."
        given = :cowboy_req.header("content-type", req, nil)
        details = [field: "content-type", value: given, bound: "application/json"]
        {:error, Error.new("unsupported_media", message, details)}
    end
  end
end
