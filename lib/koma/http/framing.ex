defmodule Koma.HTTP.Framing do
  @moduledoc """
  Refuses requests of which two readers could believe different things, before anything else is done
  with them: a proxy in front and this server must agree where a request ends ("request smuggling",
  RFC 9112, 11.2). Such a connection is answered 400 and closed.

  Cowboy itself, as `scripts/mend-cowboy.escript` leaves it, refuses a repeated or negative length, a
  length beside a transfer-encoding, an unknown coding, chunks that are none, and folded headers.
  What it reads, though not everybody does in the same way, is refused here.

  This is a stream handler: it is asked in the process of the connection, before that looks at what
  the client has sent behind the request.
  """

  @behaviour :cowboy_stream

  alias Koma.Error
  alias Koma.HTTP.{Connection, Reply}

  @impl true
  def init(stream, %{headers: headers} = req, options) do
    case fault(headers) do
      nil -> :cowboy_stream.init(stream, req, options)
      {header, message} -> {[refusal(header, message), :stop], :undefined}
    end
  end

  @impl true
  defdelegate data(stream, fin?, data, next), to: :cowboy_stream

  @impl true
  def info(stream, info, next) do
    :ok = Connection.rank()
    :cowboy_stream.info(stream, info, next)
  end

  @impl true
  defdelegate terminate(stream, reason, next), to: :cowboy_stream

  @impl true
  defdelegate early_error(stream, reason, partial, response, options), to: :cowboy_stream

  defp fault(headers) do
    length = headers["content-length"]

    cond do
      length && not digits?(length) ->
        {"content-length", "A content-length is a number of digits only."}

      header = Enum.find_value(headers, &broken/1) ->
        {header, "The value of a header holds no line break and no zero byte."}

      true ->
        nil
    end
  end

  defp digits?(<<digit, rest::binary>>) when digit in ?0..?9, do: rest == "" or digits?(rest)
  defp digits?(_other), do: false

  defp broken({name, value}) do
    if :binary.match(value, [<<0>>, "\r", "\n"]) != :nomatch, do: name
  end

  # The value is not repeated: it may be long, and it is what nobody should read.
  defp refusal(header, message) do
    Reply.closing(400, Error.new("invalid_request", message, field: header))
  end
end
