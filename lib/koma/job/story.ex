defmodule Koma.Job.Story do
  @moduledoc """
  What was told of the current attempt of a run, for jobs that join it: that it started, the
  tokens, how far it is (of the progress only the last), and how much of the prompts is read. Pure.
  """

  defstruct started: nil, tokens: [], progress: nil

  @type t :: %__MODULE__{started: map | nil, tokens: newest_first :: [map], progress: map | nil}

  @doc "Takes an event in; what ends an attempt ends its story."
  @spec note(t, type :: String.t(), data :: map) :: t
  def note(_story, "started", data), do: %__MODULE__{started: data}
  def note(story, "token", data), do: %{story | tokens: [data | story.tokens]}

  # What is told once of the prompts is told to those who join later, too.
  def note(story, "progress", data) do
    %{story | progress: Map.merge(Map.take(story.progress || %{}, ["prompts"]), data)}
  end

  def note(_story, _type, _data), do: %__MODULE__{}

  @doc "The events again, as far as they still matter."
  @spec events(t) :: [{type :: String.t(), data :: map}]
  def events(%__MODULE__{started: nil}), do: []

  def events(story) do
    tokens = for data <- Enum.reverse(story.tokens), do: {"token", data}
    progress = if story.progress, do: [{"progress", story.progress}], else: []
    [{"started", story.started}] ++ tokens ++ progress
  end
end
