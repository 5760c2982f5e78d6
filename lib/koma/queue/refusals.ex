defmodule Koma.Queue.Refusals do
  @moduledoc """
  The API keys that a full queue takes no more jobs of, with what each is told until a place is
  free again: under overload most refusals are read here, without a word to the queue.
  """

  alias Koma.Error
  alias Koma.Queue.Ticket

  @table __MODULE__

  @typep family :: String.t()

  @doc "Makes the table. Its owner is the calling process."
  @spec create() :: :ok
  def create do
    @table = :ets.new(@table, [:named_table, :public, read_concurrency: true])
    :ok
  end

  @doc "What a job of this key is told now; `:unknown` for one that the queue must be asked about."
  @spec fetch(family, Ticket.key()) :: {:error, Error.t()} | :unknown
  def fetch(family, key) do
    case :ets.lookup(@table, {family, key}) do
      [{_key, error}] -> {:error, error}
      [] -> :unknown
    end
  end

  @doc "Jobs of this key are told so from now on. For the queue of the family only, as `clear/2`."
  @spec put(family, Ticket.key(), Error.t()) :: :ok
  def put(family, key, error) do
    true = :ets.insert(@table, {{family, key}, error})
    :ok
  end

  @doc "Jobs of these keys ask the queue again."
  @spec clear(family, [Ticket.key()]) :: :ok
  def clear(family, keys), do: Enum.each(keys, &:ets.delete(@table, {family, &1}))
end
