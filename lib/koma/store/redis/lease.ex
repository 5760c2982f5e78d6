defmodule Koma.Store.Redis.Lease do
  @moduledoc """
  This gateway's lease (`koma:gateway:<id>`, renewed three times in its length), and the adoption of
  the live jobs of gateways whose lease is over. A script gives each of these jobs to exactly one
  gateway that serves its model; the keeper of jobs runs it again.

  Each time it renews the lease it also looks what became of its own jobs (`Koma.Store.Redis.Audit`),
  and less often of all jobs. `koma:generation` names what Redis knows: when the name is
  another one, all of it was lost while Redis stayed up, and every gateway writes its jobs anew.

  When Redis was away, or lost everything, the leases of all gateways may be over though they live.
  So a gateway that has seen that adopts nothing until the others have had the time to come back.
  """
  use GenServer
  require Logger

  alias Koma.{Redis, Store, Telemetry}
  alias Koma.Job.Keeper
  alias Koma.Store.Memory
  alias Koma.Store.Redis.{Audit, Quarantine, Stored, Writer}

  # So many jobs at a time: other gateways take their share.
  @batch 16
  # Within so long after Redis is back, every gateway that lives has connected again.
  @reconnect_ms 6_000
  # So long it is known which jobs were taken from a gateway that may come back.
  @taken_ms 7 * 24 * 60 * 60 * 1000

  @doc """
  Starts it. Options: `:lease_ms`; `:models`, the families whose jobs are adopted; `:sweep_ms`, the
  pause between two looks at all jobs.
  """
  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(options),
    do: GenServer.start_link(__MODULE__, Map.new(options), name: __MODULE__)

  @doc """
  Whether what Redis lists is all that there is: it lost nothing for so long that every gateway has
  written its jobs anew since.
  """
  @spec settled?() :: boolean
  def settled? do
    case :persistent_term.get(__MODULE__, nil) do
      {generation, since} ->
        now() >= since and Redis.command(["GET", "koma:generation"]) == {:ok, generation}

      nil ->
        false
    end
  end

  @impl GenServer
  def init(options) do
    _sent = send(self(), :renew)
    # A gateway that starts knows of no loss.
    :persistent_term.erase(__MODULE__)
    state = %{quiet_until: now(), sweep_at: now(), generation: nil, quarantined: 0}
    {:ok, Map.merge(state, options)}
  end

  @impl GenServer
  def handle_info(:renew, state) do
    state = if Redis.up?(), do: renew(state), else: away(state)
    _timer = Process.send_after(self(), :renew, div(state.lease_ms, 3))
    {:noreply, state}
  end

  # A late answer to a question that was given up.
  def handle_info(_late, state), do: {:noreply, state}

  defp away(state), do: %{state | quiet_until: now() + state.lease_ms + @reconnect_ms}

  defp renew(state) do
    me = Store.Redis.gateway()
    node = Atom.to_string(Node.self())
    name = Base.encode16(:crypto.strong_rand_bytes(10))

    case Redis.command(Redis.script(:renew, [me, node, state.lease_ms, name])) do
      {:ok, [generation, quarantined]} ->
        Writer.wake()
        quarantined = String.to_integer(quarantined)
        Quarantine.report(state.quarantined, quarantined)
        state = known(generation, %{state | quarantined: quarantined})
        Audit.live(me)
        state |> sweep() |> adopt_all()

      {:error, _reason} ->
        away(state)
    end
  end

  defp known(generation, %{generation: generation} = state), do: state

  defp known(generation, %{generation: nil} = state), do: note(state, generation, now())

  defp known(generation, state) do
    Logger.error("Redis lost all that it knew; the jobs of this gateway are written anew")
    Writer.rewrite_all()
    state = away(state)
    note(state, generation, state.quiet_until)
  end

  defp note(state, generation, since) do
    :persistent_term.put(__MODULE__, {generation, since})
    %{state | generation: generation}
  end

  defp sweep(state) do
    if now() >= max(state.sweep_at, state.quiet_until) do
      Audit.everything()
      %{state | sweep_at: now() + state.sweep_ms}
    else
      state
    end
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
      # What is no name of a gateway was put there by somebody else.
      for {"gw_" <> _ = id, {:ok, "0"}} <- Enum.zip(gateways, leases), id != me, do: id
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
        Quarantine.mend([{"set", "koma:live:" <> gateway}])
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
      commands = for id <- ids, do: Redis.script(:adopt, [id, gateway, me, @taken_ms | models])

      case Redis.pipeline(commands) do
        {:ok, replies} ->
          for {id, {:ok, ["ok" | job]}} <- Enum.zip(ids, replies),
              taken <- take(id, job),
              do: taken

        # What was adopted all the same is found at the next turn, as one of its own.
        {:error, _failure} ->
          []
      end
    end)
  end

  defp take(id, [epoch, seq, blob | blobs]) do
    case Stored.record(id, blob, seq) do
      {:ok, record} when is_nil(record.finished_at) ->
        {events, sound?} = Stored.events(blobs, record)
        record = %{record | epoch: String.to_integer(epoch), seq: length(events)}
        :ok = Writer.adopted(record, events)
        unless sound?, do: Writer.rewrite(id)
        [record]

      _damaged ->
        Quarantine.damaged(id)
        []
    end
  end

  defp now, do: System.monotonic_time(:millisecond)

  defp announce(records) do
    Logger.info("#{length(records)} jobs of gateways that are gone go on here")
    Telemetry.execute([:koma, :store, :adopted], %{jobs: length(records)}, %{})
    records |> Enum.sort_by(&{&1.created_at, &1.id}) |> Keeper.adopt()
  end
end
