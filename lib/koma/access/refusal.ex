defmodule Koma.Access.Refusal do
  @moduledoc "The errors of limits, each with the limit and when to come again. Pure."

  alias Koma.Error

  # Nobody knows when a socket is closed or a job ends.
  @again_ms 1_000

  @things %{
    sockets: "WebSockets and event streams open",
    topics: "topics joined",
    uploads: "uploads under way",
    jobs: "jobs that have not ended"
  }

  @doc "More requests than `rate` a second."
  @spec too_often(pos_integer, retry_ms :: pos_integer) :: Error.t()
  def too_often(rate, retry_ms) do
    message = "This API key may make #{rate} requests a second."
    Error.new("rate_limited", message, field: "rate", bound: rate, retry_after_ms: retry_ms)
  end

  @doc "More than `limit` at the same time."
  @spec too_many(:sockets | :topics | :uploads | :jobs | :pipelines, pos_integer) :: Error.t()
  def too_many(:pipelines, limit) do
    message = "This API key may have #{limit} pipelines that have not ended at the same time."
    Error.new("limit_reached", message, field: "jobs", bound: limit, retry_after_ms: @again_ms)
  end

  def too_many(name, limit) do
    message = "This API key may have #{limit} #{@things[name]} at the same time."
    details = [field: Atom.to_string(name), bound: limit, retry_after_ms: @again_ms]
    Error.new("limit_reached", message, details)
  end

  @doc "What a key may have of a day is used up."
  @spec used_up(:jobs_per_day | :bytes_per_day, pos_integer, retry_ms :: pos_integer) :: Error.t()
  def used_up(name, limit, retry_ms) do
    what = %{jobs_per_day: "jobs", bytes_per_day: "bytes of uploads"}[name]
    message = "This API key may have #{limit} #{what} a day; the next day begins at 0:00 UTC."
    details = [field: Atom.to_string(name), bound: limit, retry_after_ms: retry_ms]
    Error.new("quota_exceeded", message, details)
  end

  @doc "What the key has stored would take more than `limit` bytes; unused uploads go after `grace_ms`."
  @spec full(pos_integer, grace_ms :: non_neg_integer) :: Error.t()
  def full(limit, grace_ms) do
    message = "This API key may store #{limit} bytes: uploads, results and pipelines."
    details = [field: "stored_bytes", bound: limit, retry_after_ms: grace_ms]
    Error.new("quota_exceeded", message, details)
  end
end
