defmodule Koma.Store.Redis do
  @moduledoc """
  The jobs of a cluster of gateways, in one Redis: see docs/store.md for what lies where.

  `Koma.Store.Redis.Writer` writes the jobs of this gateway, many with one round trip; here is what
  reads. Every write names the owner and the epoch of the job, and a script refuses it when
  another gateway has adopted the job. `Koma.Store.Redis.Lease` holds this gateway's lease and adopts
  the jobs of those whose lease is over.
  """

  @behaviour Koma.Store.Backend

  alias Koma.{Cluster, Error, Options, Redis}
  alias Koma.Job.Record
  alias Koma.Store.Memory
  alias Koma.Store.Redis.{Lease, Quarantine, Stored, Watch, Writer}

  @page 200
  # What an id looks like; nothing else is asked for.
  @id ~r/\A[a-z0-9_]{1,64}\z/

  @impl true
  def children(%Options{} = options) do
    [
      {Redis.Connection, address: options.redis, timeout_ms: options.redis_timeout_ms},
      {Writer, retention_jobs: options.retention_jobs},
      {Lease,
       lease_ms: options.lease_ms,
       models: Enum.uniq(Enum.map(options.models, & &1.family)),
       sweep_ms: options.collect_ms},
      Watch
    ]
  end

  @doc "The name of this gateway among those that share the Redis: of this BEAM, not of its machine."
  @spec gateway() :: String.t()
  def gateway do
    with nil <- :persistent_term.get(__MODULE__, nil) do
      id = Base.encode32(:crypto.strong_rand_bytes(10), case: :lower, padding: false)
      :persistent_term.put(__MODULE__, "gw_" <> id)
      gateway()
    end
  end

  @impl true
  defdelegate accept(record, max_jobs), to: Writer

  @impl true
  defdelegate accept_ended(record, events), to: Writer

  @impl true
  def append(happened),
    do: Enum.map(happened, fn {record, event} -> Writer.append(record, event) end)

  # A gateway that is not told, because it cannot be reached, finds out with its collector's next pass.
  @impl true
  def forget(ids) do
    :ok = Writer.forget(ids)
    Cluster.tell_gateways(Writer, {:"$gen_cast", {:forgotten, ids}})
  end

  @impl true
  def read(id, after_seq) do
    with true <- id =~ @id,
         {:ok, replies} <- Redis.pipeline([fields(id) | events(id, after_seq)]) do
      case replies do
        [{:ok, [nil | _]} | _] -> absent(id)
        [{:ok, [_, _, _] = fields} | listed] -> story(id, fields, listed, after_seq)
        [{:error, text} | _] -> unreadable(id, text)
      end
    else
      false -> :error
      {:error, _failure} -> {:error, unavailable()}
    end
  end

  defp fields(id), do: ["HMGET", "koma:job:" <> id, "record", "seq", "packed"]

  defp events(_id, :none), do: []
  defp events(id, after_seq), do: [["LRANGE", "koma:events:" <> id, after_seq, -1]]

  defp absent(id) do
    if Quarantine.holds?(id), do: {:error, Quarantine.error(id)}, else: :error
  end

  # Its owner, or the next gateway that looks at every job, sees to it.
  defp unreadable(id, "WRONGTYPE" <> _), do: {:error, Quarantine.error(id)}
  defp unreadable(_id, _away), do: {:error, unavailable()}

  defp story(id, [blob, seq, packed], listed, after_seq) do
    case Stored.record(id, blob, seq || "") do
      {:ok, record} ->
        {:ok, record, told(packed, listed, after_seq, record)}

      :damaged ->
        Quarantine.damaged(id)
        {:error, Quarantine.error(id)}
    end
  end

  defp told(_packed, [], :none, _record), do: []

  defp told(nil, [{:ok, blobs}], after_seq, record),
    do: Stored.later_events(blobs, after_seq, record)

  defp told(nil, [{:error, _damaged}], _after_seq, _record), do: []
  defp told(packed, _listed, after_seq, record), do: Stored.packed(packed, after_seq, record)

  @impl true
  defdelegate ready, to: Writer

  @impl true
  defdelegate watch(id, seq), to: Watch, as: :follow

  @impl true
  def list(key, keep?, limit) do
    case page(key, 0, keep?, limit, []) do
      {:ok, records} ->
        records

      # Those of this gateway can be told all the same.
      {:error, _failure} ->
        fn record -> record.key == key and keep?.(record) end |> Memory.list() |> Enum.take(limit)
    end
  end

  defp page(_key, _from, _keep?, left, found) when left <= 0, do: {:ok, joined(found)}

  defp page(key, from, keep?, left, found) do
    with {:ok, [_ | _] = ids} <-
           Redis.command(["ZREVRANGE", index(key), from, from + @page - 1]),
         {:ok, records} <- records(ids) do
      kept = records |> Enum.filter(keep?) |> Enum.take(left)
      page(key, from + @page, keep?, left - length(kept), [kept | found])
    else
      {:ok, []} ->
        {:ok, joined(found)}

      error ->
        Quarantine.mend([{"zset", index(key)}])
        error
    end
  end

  defp joined(pages), do: pages |> Enum.reverse() |> Enum.concat()

  @doc "The key of the sorted set of an API key's jobs."
  @spec index(String.t() | nil) :: String.t()
  def index(key), do: "koma:jobs:" <> (key || "")

  defp records(ids) do
    with {:ok, replies} <- Redis.pipeline(Enum.map(ids, &fields/1)) do
      jobs =
        for {id, {:ok, [blob, seq, _]}} when blob != nil <- Enum.zip(ids, replies),
            do: {id, blob, seq}

      {:ok, Enum.flat_map(jobs, &decode/1)}
    end
  end

  defp decode({id, blob, seq}) do
    case Stored.record(id, blob, seq || "") do
      {:ok, record} ->
        [record]

      :damaged ->
        Quarantine.damaged(id)
        []
    end
  end

  @impl true
  def all do
    with true <- Lease.settled?(),
         {:ok, finished} <- Redis.command(["ZRANGE", "koma:finished", 0, -1]),
         {:ok, gateways} <- Redis.command(["SMEMBERS", "koma:gateways"]),
         {:ok, live} <- Redis.pipeline(for(id <- gateways, do: ["SMEMBERS", "koma:live:" <> id])) do
      here = for record <- Memory.list(&(not Record.ended?(&1))), do: record.id
      ids = finished ++ here ++ for({:ok, ids} <- live, id <- ids, do: id)
      everything(Enum.uniq(ids))
    else
      _error -> :error
    end
  end

  # One page at a time, so that the writes of jobs get in between.
  defp everything(ids) do
    ids
    |> Enum.chunk_every(@page)
    |> Enum.reduce_while({:ok, []}, fn page, {:ok, found} ->
      case records(page) do
        {:ok, records} -> {:cont, {:ok, records ++ found}}
        {:error, _failure} -> {:halt, :error}
      end
    end)
  end

  @impl true
  def owner(id) do
    with :error <- here(id),
         true <- id =~ @id,
         {:ok, [gateway, nil]} when gateway != nil <-
           Redis.command(["HMGET", "koma:job:" <> id, "owner", "packed"]),
         {:ok, node} <- Redis.command(["GET", "koma:gateway:" <> gateway]) do
      if node, do: {:ok, %{gateway: gateway, node: node}}, else: :error
    else
      :here -> :here
      false -> :error
      {:ok, _ended_or_unknown} -> :error
      {:error, _failure} -> {:error, unavailable()}
    end
  end

  defp here(id), do: with({:ok, _record} <- Memory.latest(id), do: :here)

  @doc "What a request is told that needs a Redis that is away."
  @spec unavailable() :: Error.t()
  def unavailable do
    message = "The store of jobs (Redis) does not answer; no accepted job is lost"
    Error.new("unavailable", message, retry_after_ms: 2_000)
  end
end
