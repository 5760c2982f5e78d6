defmodule Koma.Store.Collector do
  @moduledoc """
  Ends the retention of finished jobs and deletes the artifacts that nobody needs any more: those
  that no live or retained job names, and that were neither stored nor
  asked for within the grace period.

  It runs every `collect_ms`, and soon after the disk was found full, in one pass over the
  folder of artifacts; between the passes it costs nothing.
  """
  use GenServer
  require Logger

  alias Koma.{Options, Telemetry}
  alias Koma.Job.Record
  alias Koma.Store.{Artifacts, Grace, Jobs, Retention}

  # At most one pass in so many ms, however often the disk is found full.
  @pause_ms 10_000
  # From the end of a job until it is surely in the list of all.
  @unlisted_ms 60_000

  @doc "Starts it."
  @spec start_link(term) :: GenServer.on_start()
  def start_link(_options), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "Makes a pass now; returns what was forgotten and deleted."
  @spec collect() :: %{
          jobs: non_neg_integer,
          files: non_neg_integer,
          bytes: non_neg_integer
        }
  def collect, do: GenServer.call(__MODULE__, :collect, :infinity)

  @doc "Asks for a pass soon: the disk is full."
  @spec disk_full() :: :ok
  def disk_full, do: GenServer.cast(__MODULE__, :disk_full)

  @impl GenServer
  def init(nil), do: {:ok, later(%{timer: nil, last: now() - @pause_ms})}

  @impl GenServer
  def handle_call(:collect, _from, state), do: {:reply, pass(), later(state)}

  @impl GenServer
  def handle_cast(:disk_full, %{last: last} = state) do
    if now() - last < @pause_ms, do: {:noreply, state}, else: handle_info(:collect, state)
  end

  @impl GenServer
  def handle_info(:collect, state) do
    _collected = pass()
    {:noreply, later(%{state | last: now()})}
  end

  defp later(%{timer: timer} = state) do
    _left = timer && Process.cancel_timer(timer)
    %{state | timer: Process.send_after(self(), :collect, Options.get().collect_ms)}
  end

  defp pass do
    options = Options.get()
    # Listed before the jobs are looked at: what comes meanwhile is young.
    stored = Artifacts.list()

    jobs = with_all(0, &forget(&1, options, Map.new(stored)))
    deleted = with_all(%{files: 0, bytes: 0}, &sweep(&1, stored, options.grace_ms))
    Artifacts.sweep_types(Grace.since(options.grace_ms))
    collected = Map.put(deleted, :jobs, jobs)
    Telemetry.execute([:koma, :store, :collected], collected, %{})
    collected
  end

  # While nobody can tell which jobs there are, nothing is forgotten or deleted.
  defp with_all(nothing, fun) do
    case Jobs.all() do
      {:ok, records} -> fun.(records)
      :error -> nothing
    end
  end

  defp forget(records, options, sizes) do
    {ended, live} = Enum.split_with(records, &Record.ended?/1)
    finished = ended |> Enum.map(&{&1.finished_at, &1.id, here(&1, sizes)}) |> Enum.sort()
    now = System.system_time(:millisecond)
    {old, kept} = Retention.too_old(finished, now - options.retention_ms)
    needed = Enum.flat_map(live, &Record.artifacts/1)
    large = Retention.too_large(kept, needed, sizes, options.retention_bytes)
    ids = for({_at, id, _artifacts} <- old ++ large, do: id) ++ elsewhere(records, now)
    if ids != [], do: :ok = Jobs.forget(ids)
    length(ids)
  end

  # Jobs in memory that another gateway has had forgotten; what ended just now may not be listed yet.
  defp elsewhere(records, now) do
    listed = MapSet.new(records, & &1.id)
    old? = &(Record.ended?(&1) and &1.finished_at < now - @unlisted_ms)
    for %{id: id} <- Jobs.list(old?), not MapSet.member?(listed, id), do: id
  end

  # To forget jobs whose artifacts other gateways hold would free nothing here.
  defp here(record, sizes), do: Enum.filter(Record.artifacts(record), &is_map_key(sizes, &1))

  defp sweep(records, stored, grace_ms) do
    needed = records |> Enum.flat_map(&Record.artifacts/1) |> MapSet.new()
    since = Grace.since(grace_ms)

    for {id, bytes} <- stored,
        not MapSet.member?(needed, id),
        Grace.collect(id, since) == :deleted,
        reduce: %{files: 0, bytes: 0} do
      %{files: files, bytes: sum} -> %{files: files + 1, bytes: sum + bytes}
    end
  end

  defp now, do: System.monotonic_time(:millisecond)
end
