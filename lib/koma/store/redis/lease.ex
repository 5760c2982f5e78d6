defmodule Koma.Store.Redis.Lease do
  @moduledoc """
  This gateway's lease (`koma:gateway:<id>`, renewed three times in its length), and the adoption of
  the live jobs of gateways whose lease is over. A script gives each of these jobs to exactly one
  gateway that serves its model; the keeper of jobs runs it again.

  A gateway that comes back after its lease was over looks which of its jobs are still its own.

  When Redis was away, the leases of all gateways may be over though they live. So a gateway that
  has seen it away adopts nothing until the others have had the time to come back.
  """
  use GenServer
  require Logger

  alias Koma.{Redis, Store, Telemetry}
  alias Koma.Job.{Keeper, Record}
  alias Koma.Store.Memory
  alias Koma.Store.Redis.Writer

  # So many jobs at a time: other gateways take their share.
  @batch 16
  # Within so long after Redis is back, every gateway that lives has connected again.
  @reconnect_ms 6_000

  @doc "Starts it. Options: `:lease_ms`, `:models`, the families whose jobs are adopted."
  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(options),
    do: GenServer.start_link(__MODULE__, Map.new(options), name: __MODULE__)

  @impl GenServer
  def init(options) do
    _sent = send(self(), :renew)
    {:ok, Map.put(options, :quiet_until, now())}
  end

  @impl GenServer
  def handle_info(:renew, state) do
    state = if Redis.up?() and renew(state), do: adopt_all(state), else: away(state)
    _timer = Process.send_after(self(), :renew, div(state.lease_ms, 3))
    {:noreply, state}
  end

  # A late answer to a question that was given up.
  def handle_info(_late, state), do: {:noreply, state}

  defp away(state), do: %{state | quiet_until: now() + state.lease_ms + @reconnect_ms}

  defp renew(state) do
    me = Store.Redis.gateway()
    node = Atom.to_string(Node.self())

    case Redis.command(Redis.script(:renew, [me, node, state.lease_ms])) do
      {:ok, held} ->
        if held == "0", do: compare(me)
        Writer.wake()
        true

      {:error, _reason} ->
        false
    end
  end

  # The lease was over, or this is the first: others may have adopted jobs of this gateway.
  defp compare(me) do
    live = Memory.list(&(not Record.ended?(&1)))
    commands = for record <- live, do: ["HMGET", "koma:job:" <> record.id, "owner", "epoch"]

    _fenced =
      with [_ | _] <- commands, {:ok, replies} <- Redis.pipeline(commands) do
        for {record, {:ok, [owner, epoch]}} <- Enum.zip(live, replies),
            owner != nil and {owner, epoch} != {me, Integer.to_string(record.epoch)},
            do: Writer.fenced(record)
      end

    :ok
  end

  # Its own, too: those that are stored and not known here, since the core has started again.
  defp adopt_all(state) do
    me = Store.Redis.gateway()
    models = Enum.uniq(state.models ++ Koma.Cluster.families())
    gone = if now() < state.quiet_until, do: [], else: gone(me)
    adopted = Enum.flat_map([me | gone], &adopt_from(&1, me, models))
    if adopted != [], do: announce(adopted)
    state
  end

  defp gone(me) do
    with {:ok, [_ | _] = gateways} <- Redis.command(["SMEMBERS", "koma:gateways"]),
         {:ok, leases} <-
           Redis.pipeline(for(id <- gateways, do: ["EXISTS", "koma:gateway:" <> id])) do
      for {id, {:ok, "0"}} <- Enum.zip(gateways, leases), id != me, do: id
    else
      _none_or_away -> []
    end
  end

  defp adopt_from(gateway, me, models) do
    case Redis.command(["SMEMBERS", "koma:live:" <> gateway]) do
      {:ok, []} ->
        if gateway != me, do: bury(gateway)
        []

      {:ok, ids} ->
        ids
        |> Enum.reject(&known?(&1, gateway, me))
        |> Enum.chunk_every(@batch)
        |> adopt(gateway, me, models)

      {:error, _reason} ->
        []
    end
  end

  defp known?(id, me, me), do: Memory.latest(id) != :error
  defp known?(_id, _gone, _me), do: false

  # Nothing is left of it.
  defp bury(gateway) do
    _tried_again = Redis.command(["SREM", "koma:gateways", gateway])
    :ok
  end

  defp adopt(batches, gateway, me, models) do
    Enum.flat_map(batches, fn ids ->
      commands = for id <- ids, do: Redis.script(:adopt, [id, gateway, me | models])

      case Redis.pipeline(commands) do
        {:ok, replies} ->
          for {:ok, ["ok", epoch, blob | blobs]} <- replies, do: take(epoch, blob, blobs)

        # What was adopted all the same is found at the next turn, as one of its own.
        {:error, _failure} ->
          []
      end
    end)
  end

  defp take(epoch, blob, blobs) do
    events = Enum.map(blobs, &:erlang.binary_to_term/1)
    record = Store.Redis.decode(blob, Integer.to_string(length(events)))
    record = %{record | epoch: String.to_integer(epoch)}
    :ok = Writer.adopted(record, events)
    record
  end

  defp now, do: System.monotonic_time(:millisecond)

  defp announce(records) do
    Logger.info("#{length(records)} jobs of gateways that are gone go on here")
    Telemetry.execute([:koma, :store, :adopted], %{jobs: length(records)}, %{})
    records |> Enum.sort_by(&{&1.created_at, &1.id}) |> Keeper.adopt()
  end
end
