defmodule Koma.Store.Redis.Quarantine do
  @moduledoc """
  What cannot be read in Redis goes aside: it is renamed to `koma:quarantine:<key>` and listed in the
  hash `koma:quarantine` with the reason (docs/store.md). The rest goes on.
  """
  require Logger

  alias Koma.{Error, LogLine, Redis, Telemetry}
  alias Koma.Store.Memory
  alias Koma.Store.Redis.Writer

  # So many names are told in one line of the log.
  @named 10

  @doc """
  The record of a job cannot be read. A gateway that has the job in memory writes it anew; else
  it goes aside, unless its owner lives.
  """
  @spec damaged(String.t()) :: :ok
  def damaged(id) do
    if Memory.fetch(id) == :error do
      arguments = [id, Koma.Store.Redis.gateway(), "has a record that cannot be read"]
      _tried_again = Redis.command(Redis.script(:aside, arguments))
      :ok
    else
      Writer.rewrite(id)
    end
  end

  @doc "Keys that may be of another type than these; those that are go aside."
  @spec mend([{kind :: String.t(), key :: String.t()}]) :: :ok
  def mend(keys) do
    arguments = Enum.flat_map(keys, fn {kind, key} -> [kind, key] end)
    _tried_again = Redis.command(Redis.script(:mend, arguments))
    :ok
  end

  @doc "Whether a job that Redis does not know lies in quarantine, or went there from this id."
  @spec holds?(String.t()) :: boolean
  def holds?(id) do
    Redis.command(["HEXISTS", "koma:quarantine", "koma:job:" <> id]) == {:ok, "1"}
  end

  @doc "What is told of such a job."
  @spec error(String.t()) :: Error.t()
  def error(id) do
    message = "What is stored of the job cannot be read; it was set aside for an operator"
    Error.new("internal", message, field: "id", value: id)
  end

  @doc "Tells operators when there is more than there was: `before` and `now` are numbers of keys."
  @spec report(before :: non_neg_integer, now :: non_neg_integer) :: :ok
  def report(before, now) when now <= before, do: :ok

  def report(before, now) do
    Telemetry.execute([:koma, :store, :quarantined], %{keys: now - before}, %{})

    with {:ok, names} <- Redis.command(["HKEYS", "koma:quarantine"]) do
      shown = names |> Enum.take(-@named) |> Enum.map_join(", ", &LogLine.text(&1, 120))

      Logger.error(
        "#{now} keys of Redis lie in quarantine, #{now - before} of them new: #{shown}"
      )
    end

    :ok
  end
end
