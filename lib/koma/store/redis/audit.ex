defmodule Koma.Store.Redis.Audit do
  @moduledoc """
  Compares what Redis holds with what should be there. What is lost of the live jobs of this
  gateway is written anew from memory; what another gateway has adopted is given up. Jobs that no
  list leads to any more are found by looking at every key, so that they are adopted, or forgotten.
  """

  alias Koma.Redis
  alias Koma.Job.Record
  alias Koma.Store.Memory
  alias Koma.Store.Redis.Writer

  # So many jobs with one script: others get in between.
  @page 100
  @scan 500

  @doc "Checks the live jobs of this gateway."
  @spec live(gateway :: String.t()) :: :ok
  def live(gateway) do
    # Only what was stored before Redis is asked can be missing.
    live = Memory.list(&(not Record.ended?(&1)))
    live |> Enum.chunk_every(@page) |> Enum.each(&check(&1, gateway))
  end

  defp check(records, gateway) do
    facts = Enum.flat_map(records, &[&1.id, &1.epoch, &1.seq])

    with {:ok, words} when is_list(words) <-
           Redis.command(Redis.script(:check, [gateway | facts])) do
      for {record, word} <- Enum.zip(records, words), do: found(word, record)
    end

    :ok
  end

  defp found("lost", record), do: Writer.rewrite(record.id)
  defp found("fenced", record), do: Writer.fenced(record)
  defp found("ok", _record), do: :ok

  @doc "Looks at every job in Redis: sets aside the damaged ones, and has the others found."
  @spec everything(cursor :: String.t()) :: :ok
  def everything(cursor \\ "0") do
    case Redis.command(["SCAN", cursor, "MATCH", "koma:job:*", "COUNT", @scan]) do
      {:ok, [next, keys]} ->
        ids = for "koma:job:" <> id <- keys, do: id
        _again_next_time = if ids != [], do: Redis.command(Redis.script(:sweep, ids))
        if next == "0", do: :ok, else: everything(next)

      {:error, _away} ->
        :ok
    end
  end
end
