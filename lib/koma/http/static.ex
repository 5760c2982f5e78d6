defmodule Koma.HTTP.Static do
  @moduledoc """
  `/static/…`: the files of `priv/static`, served by Cowboy's own handler with the headers that every answer has.

  Browsers keep them, and ask each time whether they are still the newest (`ETag`).
  """

  alias Koma.HTTP.Reply

  @doc "Where the files are, in the form of `:cowboy_static`."
  @spec files() :: tuple
  def files, do: {:priv_dir, :koma, "static", [{:mimetypes, __MODULE__, :media_type}]}

  @doc "The media type of a file; `:cow_mimetypes` does not know modules of JavaScript."
  @spec media_type(Path.t()) :: {String.t(), String.t(), :cow_http_hd.media_type() | []}
  def media_type(path) do
    if Path.extname(path) == ".mjs",
      do: {"text", "javascript", []},
      else: :cow_mimetypes.web(path)
  end

  @doc false
  @spec init(:cowboy_req.req(), tuple) :: tuple
  def init(req, files) do
    headers = Reply.secure(%{"cache-control" => "no-cache"})
    :cowboy_static.init(:cowboy_req.set_resp_headers(headers, req), files)
  end

  for callback <- ~w(malformed_request forbidden content_types_provided charsets_provided
                     ranges_provided resource_exists last_modified generate_etag get_file)a do
    @doc false
    defdelegate unquote(callback)(req, state), to: :cowboy_static
  end
end
