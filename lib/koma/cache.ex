defmodule Koma.Cache do
  @moduledoc """
  Results of completed jobs by the fingerprint of their request (`Koma.Cache.Fingerprint`), so
  that the same request is answered at once: see docs/store.md.

  It is an index in memory (ETS, read by anyone) of what the store has anyway: outputs name
  artifacts, and at start it is made anew from the retained jobs. It holds `cache_bytes` of
  results; beyond that, those go that were not asked for the longest. A result whose artifacts
  were collected is not one any more. With a Redis the results of other gateways are found, too
  (`Koma.Cache.Shared`).
  """
  use GenServer

  alias Koma.Cache.{Fingerprint, Shared}
  alias Koma.{Options, Store, Telemetry}
  alias Koma.Job.Record
  alias Koma.Store.Artifacts

  @results __MODULE__
  @order Koma.Cache.Order

  @type result :: %{outputs: [map], seed: non_neg_integer | nil}

  @doc "Starts the cache of this peer, with the results of the retained jobs."
  @spec start_link(term) :: GenServer.on_start()
  def start_link(_options), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "The result of an earlier request that was the same; its artifacts stay for a grace period."
  @spec fetch(Fingerprint.t() | nil) :: {:ok, result} | :miss
  def fetch(nil), do: :miss

  def fetch(fingerprint) do
    with [{_key, result, _bytes, _used}] <- :ets.lookup(@results, fingerprint),
         true <- whole?(result) do
      GenServer.cast(__MODULE__, {:used, fingerprint})
      Telemetry.execute([:koma, :cache, :hit], %{count: 1}, %{})
      {:ok, result}
    else
      [] ->
        Telemetry.execute([:koma, :cache, :miss], %{count: 1}, %{})
        :miss

      false ->
        GenServer.cast(__MODULE__, {:drop, fingerprint})
        :miss
    end
  end

  @doc """
  As `fetch/1`, among the results of all gateways. This asks Redis, so it is for those who have been
  admitted: refusals wait for nothing.
  """
  @spec fetch_shared(Fingerprint.t() | nil) :: {:ok, result} | :miss
  def fetch_shared(fingerprint) do
    with {:ok, result} <- Shared.find(fingerprint),
         true <- whole?(result) do
      Telemetry.execute([:koma, :cache, :found], %{count: 1}, %{})
      {:ok, result}
    else
      _unknown_or_not_here -> :miss
    end
  end

  @doc "Takes in the result of a completed job, if its request may be cached."
  @spec put(Record.t()) :: :ok
  def put(%Record{fingerprint: nil}), do: :ok

  def put(%Record{} = record) do
    GenServer.cast(__MODULE__, {:put, record.fingerprint, result(record)})
  end

  @doc "How many results there are, of how many bytes, and how many bytes there may be."
  @spec size(timeout_ms :: pos_integer) :: %{
          results: non_neg_integer,
          bytes: non_neg_integer,
          limit: non_neg_integer
        }
  def size(timeout_ms), do: GenServer.call(__MODULE__, :size, timeout_ms)

  defp result(record), do: Map.take(record, [:outputs, :seed])

  defp whole?(%{outputs: outputs}) do
    Enum.all?(outputs, fn output ->
      output["artifact"] == nil or match?({:ok, _}, Artifacts.renew(output["artifact"], nil))
    end)
  end

  @impl GenServer
  def init(nil) do
    @results = :ets.new(@results, [:named_table, :protected, read_concurrency: true])
    @order = :ets.new(@order, [:named_table, :private, :ordered_set])

    state = %{bytes: 0, limit: Options.get().cache_bytes}
    completed = Store.Jobs.list(&(&1.state == "completed" and &1.fingerprint != nil))
    {:ok, completed |> Enum.sort_by(& &1.finished_at) |> Enum.reduce(state, &restore/2)}
  end

  @impl GenServer
  def handle_call(:size, _from, state) do
    {:reply, Map.put(state, :results, :ets.info(@results, :size)), state}
  end

  @impl GenServer
  def handle_cast({:put, fingerprint, result}, state) do
    Shared.keep(fingerprint, result, bytes(result))
    {:noreply, insert(state, fingerprint, result)}
  end

  def handle_cast({:drop, fingerprint}, state), do: {:noreply, drop(state, fingerprint)}

  def handle_cast({:used, fingerprint}, state) do
    with [{_key, result, bytes, used}] <- :ets.lookup(@results, fingerprint) do
      :ets.delete(@order, used)
      write(fingerprint, result, bytes)
    end

    {:noreply, state}
  end

  defp restore(record, state), do: insert(state, record.fingerprint, result(record))

  defp insert(state, fingerprint, result) do
    state = drop(state, fingerprint)
    bytes = bytes(result)

    if bytes <= state.limit do
      write(fingerprint, result, bytes)
      evict(%{state | bytes: state.bytes + bytes})
    else
      state
    end
  end

  defp write(fingerprint, result, bytes) do
    used = System.unique_integer([:monotonic])
    :ets.insert(@results, {fingerprint, result, bytes, used})
    :ets.insert(@order, {used, fingerprint})
  end

  defp evict(%{bytes: bytes, limit: limit} = state) when bytes <= limit, do: state

  defp evict(state) do
    [{_used, oldest}] = :ets.lookup(@order, :ets.first(@order))
    state |> drop(oldest) |> evict()
  end

  defp drop(state, fingerprint) do
    case :ets.take(@results, fingerprint) do
      [{_key, _result, bytes, used}] ->
        :ets.delete(@order, used)
        %{state | bytes: state.bytes - bytes}

      [] ->
        state
    end
  end

  # What it takes on disk, and in memory.
  defp bytes(%{outputs: outputs} = result) do
    files = for %{"artifact" => _id, "bytes" => bytes} <- outputs, do: bytes
    Enum.sum(files) + :erlang.external_size(result)
  end
end
