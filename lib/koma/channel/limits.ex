defmodule Koma.Channel.Limits do
  @moduledoc "The bounds of a connection that a client is told when it joins the topic `jobs`."

  # Parameters and prompts only; media go through HTTP. The same bound as on the wire to model nodes.
  @max_frame_bytes 8 * 1024 * 1024
  # A client with a job in flight joins one topic for it; each is a process here.
  @max_topics 1_000

  @doc "The largest frame that is looked at; larger ones are refused with `too_large`."
  @spec max_frame_bytes() :: pos_integer
  def max_frame_bytes, do: @max_frame_bytes

  @doc "How many topics one connection may have joined."
  @spec max_topics() :: pos_integer
  def max_topics, do: @max_topics
end
