defmodule Koma.OpenAI.Answer do
  @moduledoc "The text of a job as it grows, and what is told of it at the end. Pure."

  alias Koma.Job.Event

  @enforce_keys [:text, :next]
  defstruct [:text, :next]

  @typedoc "What was sent so far, and the number of the piece that comes next."
  @type t :: %__MODULE__{text: String.t(), next: non_neg_integer | :unknown}

  @doc "Nothing was sent."
  @spec new() :: t
  def new, do: %__MODULE__{text: "", next: 0}

  @doc """
  The text that an event adds. After a retry the same pieces come again and add nothing. Where a piece
  is missing, nothing is added any more: the rest comes with the end.
  """
  @spec grow(t, Event.t()) :: {String.t(), t}
  def grow(%__MODULE__{next: next} = answer, %Event{type: "token", data: data}) do
    case data["index"] do
      ^next -> {data["text"], %{answer | text: answer.text <> data["text"], next: next + 1}}
      index when index < next -> {"", answer}
      _gap -> {"", %{answer | next: :unknown}}
    end
  end

  def grow(answer, _event), do: {"", answer}

  @doc "What of the whole text was not sent yet."
  @spec rest(t, job :: map) :: String.t()
  def rest(%__MODULE__{text: sent}, job) do
    whole = text(job)

    if String.starts_with?(whole, sent),
      do: binary_part(whole, byte_size(sent), byte_size(whole) - byte_size(sent)),
      else: ""
  end

  @doc "The whole text."
  @spec text(job :: map) :: String.t()
  def text(job), do: output(job)["text"] || ""

  @doc "Whether the answer ends because it has as many tokens as were asked for."
  @spec cut?(job :: map) :: boolean
  def cut?(job), do: tokens(job) >= (job["params"]["max_new_tokens"] || :infinity)

  @doc "Tokens of the prompt, files included, and of the answer."
  @spec tokens_read(job :: map) :: non_neg_integer
  def tokens_read(job), do: output(job)["meta"]["prompt_tokens"] || 0

  @doc "Tokens of the answer."
  @spec tokens(job :: map) :: non_neg_integer
  def tokens(job), do: output(job)["meta"]["tokens"] || 0

  defp output(%{"outputs" => outputs}), do: Enum.find(outputs, %{"meta" => %{}}, & &1["text"])
end
