defmodule Koma.Store.Redis.Outcome do
  @moduledoc "What Redis said to an entry, and what that means. Pure."

  alias Koma.{Error, LogLine, Store}
  alias Koma.Store.Redis.Entry

  @typedoc """
  `stored`; `fenced`: the job has another owner; `lost`: Redis does not know the job, knows less
  of it than this gateway, or what it knows is damaged; `full`: no room; `broken`: it takes no
  commands now, or an error that nobody expects.
  """
  @type t :: :stored | :fenced | :lost | :full | {:broken, binary}

  @doc "The meaning of one reply."
  @spec of(Koma.Redis.reply()) :: t
  def of({:ok, "ok"}), do: :stored
  def of({:ok, "fenced"}), do: :fenced
  def of({:ok, "gone"}), do: :lost
  def of({:ok, "gap"}), do: :lost
  def of({:ok, _unexpected}), do: {:broken, "what no script says"}
  def of({:error, <<"OOM", _::binary>>}), do: :full
  def of({:error, <<"MISCONF", _::binary>>}), do: :full
  def of({:error, <<"NOREPLICAS", _::binary>>}), do: :full
  # A script met a key or a field that it cannot work with.
  def of({:error, text}) do
    cond do
      text =~ "OOM command not allowed" -> :full
      text =~ ~r/WRONGTYPE|not an integer|user_script/ -> :lost
      true -> {:broken, text}
    end
  end

  @doc """
  Pairs entries with outcomes. An entry that finds a gap only because one before it in the same
  batch was not stored has met the same obstacle.
  """
  @spec pair([Entry.t()], [Koma.Redis.reply()]) :: [{Entry.t(), t}]
  def pair(entries, replies) do
    {paired, _obstacles} =
      entries
      |> Enum.zip(Enum.map(replies, &of/1))
      |> Enum.map_reduce(%{}, fn {entry, outcome}, obstacles ->
        outcome = behind(outcome, obstacles[Entry.id(entry)])
        {{entry, outcome}, note(obstacles, Entry.id(entry), outcome)}
      end)

    paired
  end

  defp behind(:lost, obstacle) when obstacle != nil, do: obstacle
  defp behind(outcome, _obstacle), do: outcome

  defp note(obstacles, id, outcome) when outcome in [:full, :lost] or is_tuple(outcome),
    do: Map.put(obstacles, id, outcome)

  defp note(obstacles, _id, _outcome), do: obstacles

  @typedoc "Why nothing new is accepted."
  @type reason :: :storage_full | :unavailable

  @doc "Why an outcome keeps new jobs from being accepted."
  @spec reason(t) :: reason
  def reason(:full), do: :storage_full
  def reason(_lost_or_broken), do: :unavailable

  @doc "An outcome in words, for the log."
  @spec words(t) :: String.t()
  def words(:full), do: "Redis has no room"
  def words(:lost), do: "what Redis holds is damaged"
  def words({:broken, text}), do: "Redis answers #{LogLine.text(text, 200)}"

  @doc "What a request is told that was not accepted."
  @spec refusal(reason) :: Error.t()
  def refusal(:unavailable), do: Store.Redis.unavailable()

  def refusal(:storage_full) do
    Error.new("storage_full", "The Redis that holds the jobs is full", retry_after_ms: 5_000)
  end
end
