defmodule Koma.Cache.Shared do
  @moduledoc """
  The results of all gateways, in the Redis of a cluster: what is not found here was perhaps
  computed elsewhere. Beyond `cache_bytes` those go that were not asked for the longest.

  It may only ever save work: while Redis is away nothing is found and nothing is kept, and a
  result whose artifacts are not on this gateway's disk is none here.
  """

  alias Koma.Cache.Fingerprint
  alias Koma.{Options, Redis}

  @doc "A result that some gateway kept, of whose artifacts nothing is known."
  @spec find(Fingerprint.t() | nil) :: {:ok, Koma.Cache.result()} | :miss
  def find(nil), do: :miss

  def find(fingerprint) do
    with true <- used?(),
         {:ok, blob} when is_binary(blob) <-
           Redis.command(Redis.script(:find, [name(fingerprint)])) do
      read(blob)
    else
      _unknown_or_away -> :miss
    end
  end

  # Anything may lie there; what is no result saves no work.
  defp read(blob) do
    case :erlang.binary_to_term(blob) do
      %{outputs: [_ | _] = outputs, seed: _} = result ->
        if Enum.all?(outputs, &is_map/1), do: {:ok, result}, else: :miss

      _other ->
        :miss
    end
  rescue
    ArgumentError -> :miss
  end

  @doc "Keeps a result of so many bytes for all gateways; does not wait for it."
  @spec keep(Fingerprint.t(), Koma.Cache.result(), bytes :: pos_integer) :: :ok
  def keep(fingerprint, result, bytes) do
    if used?(), do: send_away(fingerprint, :erlang.term_to_binary(result), bytes), else: :ok
  end

  defp send_away(fingerprint, blob, bytes) do
    command = Redis.script(:keep, [name(fingerprint), blob, bytes, Options.get().cache_bytes])
    {:ok, _task} = Task.start(fn -> Redis.command(command) end)
    :ok
  end

  defp used?, do: Redis.configured?() and Options.get().cache_bytes > 0 and Redis.up?()

  defp name(fingerprint), do: Base.encode16(fingerprint, case: :lower)
end
