defmodule Koma.HTTP.Page do
  @moduledoc """
  Answers that are web pages: HTML with the headers that keep a page to this server.

  The content security policy allows scripts, styles, pictures and connections of this origin, and pictures and videos
  that a script made (`blob:`). Inline scripts and styles, other hosts and frames are refused.
  """

  alias Koma.HTTP.Reply

  @policy [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' blob: data:",
    "media-src 'self' blob:",
    "connect-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'"
  ]

  @doc "Answers with a page; `directives` are added to the content security policy."
  @spec html(:cowboy_req.req(), iodata, directives :: [String.t()]) :: :cowboy_req.req()
  def html(req, body, directives \\ []) do
    :cowboy_req.reply(200, headers(directives), body, req)
  end

  @doc "The headers of a page, with further directives of the content security policy."
  @spec headers(directives :: [String.t()]) :: %{String.t() => String.t()}
  def headers(directives \\ []) do
    Reply.secure(%{
      "content-type" => "text/html; charset=utf-8",
      "content-security-policy" => Enum.join(@policy ++ directives, "; "),
      "cross-origin-opener-policy" => "same-origin",
      "referrer-policy" => "no-referrer",
      "cache-control" => "no-cache"
    })
  end
end
