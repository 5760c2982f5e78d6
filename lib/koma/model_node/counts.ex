defmodule Koma.ModelNode.Counts do
  @moduledoc """
  The questions to a model node how much of a prompt it would read, each with the caller that waits for the
  answer. Few at a time: they are asked while somebody types, and a later one makes the earlier one needless.
  """

  alias Koma.Error
  alias Koma.Wire.Messages.{Count, Counted}

  @at_once 16

  defstruct last: 0, waiting: %{}

  @type t :: %__MODULE__{last: non_neg_integer, waiting: %{String.t() => GenServer.from()}}

  @doc "No questions."
  @spec new() :: t
  def new, do: %__MODULE__{}

  @doc "The message that asks for a caller; `:full` while many wait."
  @spec ask(t, GenServer.from(), task :: String.t(), params :: map) ::
          {:ok, Count.t(), t} | :full
  def ask(%__MODULE__{waiting: waiting}, _from, _task, _params)
      when map_size(waiting) >= @at_once,
      do: :full

  def ask(%__MODULE__{last: last, waiting: waiting}, from, task, params) do
    id = "count-#{last + 1}"
    count = %Count{id: id, task: task, params: params}
    {:ok, count, %__MODULE__{last: last + 1, waiting: Map.put(waiting, id, from)}}
  end

  @doc "Passes an answer on. Of a question that nobody asked it is dropped."
  @spec answer(t, Counted.t()) :: t
  def answer(%__MODULE__{waiting: waiting} = counts, %Counted{id: id, prompts: prompts}) do
    {from, waiting} = Map.pop(waiting, id)
    if from, do: GenServer.reply(from, {:ok, prompts})
    %{counts | waiting: waiting}
  end

  @doc "The process is gone: nobody waits for it."
  @spec lose(t) :: t
  def lose(%__MODULE__{waiting: waiting} = counts) do
    for {_id, from} <- waiting, do: GenServer.reply(from, refused("has stopped"))
    %{counts | waiting: %{}}
  end

  @doc "The answer where a model node cannot be asked."
  @spec refused(why :: String.t()) :: {:error, Error.t()}
  def refused(why) do
    message = "The model node #{why}; the prompt cannot be counted now."
    {:error, Error.new("unavailable", message, retry_after_ms: 1_000)}
  end
end
