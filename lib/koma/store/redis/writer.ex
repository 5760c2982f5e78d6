defmodule Koma.Store.Redis.Writer do
  @moduledoc """
  Writes the jobs of this gateway to Redis, in the order in which it happened: what comes while
  one batch is under way is the next batch.

  **Redis away or full**: acceptances are refused at once; events wait in memory and are written
  when it is back, and told then, not before: another gateway may have adopted the job meanwhile,
  and then they never happened. Since nothing new is accepted, what waits is bounded by the jobs there are.

  **Redis has lost something.** A live job that it does not know, not so far, or not as it should,
  is written anew from memory, unless another gateway has adopted it. After a restart of Redis
  (another `run_id`), and when all was deleted (`Koma.Store.Redis.Lease`), so is every job of this gateway.
  """
  use GenServer
  require Logger

  alias Koma.{Error, Redis, Store, Telemetry}
  alias Koma.Job.{Event, Followers, Processes, Record}
  alias Koma.Store.Memory
  alias Koma.Store.Redis.{Entry, Outcome, Watch}

  @batch 256
  @resume_ms 200
  # How long a stop waits for what is not written yet.
  @flush_ms 3_000

  # `unstored`: by job the events that are to be stored yet; `complaint`: the last error of Redis
  # that was logged since something was stored.
  defstruct [:retention, :in_flight, :paused, :run_id, :complaint] ++
              [queue: :queue.new(), unstored: %{}]

  @doc "Starts it; option `:retention_jobs`."
  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(options), do: GenServer.start_link(__MODULE__, options, name: __MODULE__)

  @doc "See `c:Koma.Store.Backend.accept/2`."
  @spec accept(Record.t(), pos_integer | nil) :: :ok | :too_many | {:error, Error.t()}
  def accept(record, max_jobs) do
    GenServer.call(__MODULE__, {:accept, record, max_jobs}, :infinity)
  end

  @doc "See `c:Koma.Store.Backend.accept_ended/2`."
  @spec accept_ended(Record.t(), [Event.t()]) :: :ok | {:error, Error.t()}
  def accept_ended(record, events) do
    call(%Entry{kind: :accept, record: record, events: events})
  end

  @doc "See `c:Koma.Store.Backend.append/1`; one event."
  @spec append(Record.t(), Event.t()) :: :ok | :later | :fenced
  def append(record, event) do
    kind = if Record.ended?(record), do: :finish, else: :append
    call(%Entry{kind: kind, record: record, event: event})
  end

  @doc "See `c:Koma.Store.Backend.forget/1`."
  @spec forget([String.t()]) :: :ok
  def forget(ids), do: call(%Entry{kind: :forget, ids: ids})

  @doc "A job was adopted: it is one of this gateway now."
  @spec adopted(Record.t(), [Event.t()]) :: :ok
  def adopted(record, events),
    do: GenServer.call(__MODULE__, {:adopted, record, events}, :infinity)

  @doc "Another gateway owns the job that this one knows so."
  @spec fenced(Record.t()) :: :ok
  def fenced(record), do: GenServer.cast(__MODULE__, {:fenced, record})

  @doc "Redis lost or damaged a job: if it is one of this gateway, it is written anew."
  @spec rewrite(String.t()) :: :ok
  def rewrite(id), do: GenServer.cast(__MODULE__, {:rewrite, id})

  @doc "Redis lost everything: all jobs of this gateway are written anew."
  @spec rewrite_all() :: :ok
  def rewrite_all, do: GenServer.cast(__MODULE__, :rewrite_all)

  @doc "Returns once it has started."
  @spec ready() :: :ok
  def ready, do: call(:ready)

  @doc "Redis is up, perhaps again."
  @spec wake() :: :ok
  def wake, do: GenServer.cast(__MODULE__, :wake)

  defp call(entry), do: GenServer.call(__MODULE__, entry, :infinity)

  @impl GenServer
  def init(options) do
    _was = Process.flag(:trap_exit, true)
    Memory.create([])
    retention = Keyword.fetch!(options, :retention_jobs)
    {:ok, %__MODULE__{retention: retention, run_id: Redis.Connection.run_id()}}
  end

  @impl GenServer
  def handle_call(:ready, _from, state), do: {:reply, :ok, state}

  def handle_call({:accept, record, max_jobs}, from, %{paused: nil} = state) do
    if Memory.admit(record, max_jobs),
      do: handle_call(%Entry{kind: :accept, record: record}, from, state),
      else: {:reply, :too_many, state}
  end

  def handle_call({:accept, _record, _max_jobs}, _from, state) do
    {:reply, {:error, Outcome.refusal(state.paused)}, state}
  end

  def handle_call(%Entry{kind: :accept}, _from, %{paused: reason} = state) when reason != nil do
    {:reply, {:error, Outcome.refusal(reason)}, state}
  end

  def handle_call(%Entry{kind: :forget} = entry, from, state) do
    Enum.each(entry.ids, &Memory.forget_finished/1)
    {:noreply, take(entry, from, state)}
  end

  def handle_call(%Entry{kind: kind} = entry, from, state) when kind in [:append, :finish] do
    if own?(entry.record),
      do: {:noreply, happened(entry, from, state)},
      else: {:reply, :fenced, state}
  end

  # Known from now on, so that nobody takes it for a job that was left behind (Lease).
  def handle_call(%Entry{kind: :accept, record: record} = entry, from, state) do
    Memory.put_later(record.id, record)
    {:noreply, take(entry, from, state)}
  end

  def handle_call({:adopted, record, events}, _from, state) do
    Memory.admit(record, nil)
    Memory.put(record, events)
    {:reply, :ok, state}
  end

  @impl GenServer
  def handle_cast({:fenced, record}, state), do: {:noreply, lose(state, record)}
  def handle_cast(:wake, state), do: {:noreply, pump(state)}
  def handle_cast(:rewrite_all, state), do: {:noreply, state |> restore_all() |> pump()}

  def handle_cast({:rewrite, id}, state) do
    {:noreply, state |> push_front(rewrites(id)) |> pump()}
  end

  def handle_cast({:forgotten, ids}, state) do
    Enum.each(ids, &Memory.forget_finished/1)
    {:noreply, state}
  end

  @impl GenServer
  def handle_info({ref, result}, %{in_flight: {%{ref: ref}, entries}} = state) do
    Process.demonitor(ref, [:flush])
    {:noreply, %{state | in_flight: nil} |> answered(entries, result) |> pump()}
  end

  def handle_info({:DOWN, ref, _, _, _}, %{in_flight: {%{ref: ref}, entries}} = state) do
    {:noreply, answered(%{state | in_flight: nil}, entries, {:error, :closed})}
  end

  def handle_info(:resume, %{paused: nil} = state), do: {:noreply, state}

  def handle_info(:resume, state) do
    if Redis.up?(), do: {:noreply, pump(%{state | paused: nil})}, else: {:noreply, later(state)}
  end

  def handle_info({:EXIT, _task, _reason}, state), do: {:noreply, state}

  @impl GenServer
  def terminate(_reason, state) do
    %{state | paused: nil} |> pump() |> flush(now() + @flush_ms)
    release()
  end

  # A process that was slower than the news that its job is another gateway's.
  defp own?(%{id: id, epoch: epoch}), do: match?({:ok, %{epoch: ^epoch}}, Memory.fetch(id))

  defp happened(%{record: %{id: id} = record, event: event} = entry, from, state) do
    Memory.put_later(id, record)
    waiting = :queue.in(event, Map.get(state.unstored, id, :queue.new()))
    entry = %{entry | events: story(entry, waiting)}
    take(entry, from, %{state | unstored: Map.put(state.unstored, id, waiting)})
  end

  # The end is stored with the whole story.
  defp story(%{kind: :append}, _waiting), do: []

  defp story(%{kind: :finish, record: %{id: id}}, waiting) do
    Memory.events(id, 0) ++ :queue.to_list(waiting)
  end

  # While nothing can be written nobody waits for it.
  defp take(entry, from, %{paused: nil} = state),
    do: state |> push(%{entry | from: from}) |> pump()

  defp take(entry, from, state) do
    GenServer.reply(from, if(entry.kind == :forget, do: :ok, else: :later))
    push(state, entry)
  end

  defp push(state, entry), do: %{state | queue: :queue.in(entry, state.queue)}
  defp push_front(state, []), do: state

  defp push_front(state, entries) do
    %{state | queue: :queue.join(:queue.from_list(entries), state.queue)}
  end

  defp pump(%{in_flight: nil, paused: nil} = state) do
    state = after_restart(state, Redis.Connection.run_id())
    {entries, queue} = split(state.queue)
    entries = Enum.flat_map(entries, &as_known_now/1)

    cond do
      entries != [] ->
        commands = Enum.map(entries, &Entry.command(&1, state.retention))
        task = Task.async(fn -> Redis.pipeline(commands) end)
        %{state | queue: queue, in_flight: {task, entries}}

      :queue.is_empty(queue) ->
        %{state | queue: queue}

      true ->
        pump(%{state | queue: queue})
    end
  end

  defp pump(state), do: state

  defp split(queue) do
    {first, rest} = :queue.split(min(:queue.len(queue), @batch), queue)
    {:queue.to_list(first), rest}
  end

  defp after_restart(state, nil), do: state
  defp after_restart(%{run_id: run_id} = state, run_id), do: state
  defp after_restart(%{run_id: nil} = state, run_id), do: %{state | run_id: run_id}

  defp after_restart(state, run_id), do: restore_all(%{state | run_id: run_id})

  defp restore_all(state) do
    records = Memory.list(fn _record -> true end)
    push_front(state, for(record <- records, do: %Entry{kind: :restore, record: record}))
  end

  defp rewrites(id) do
    for {:ok, record} <- [Memory.fetch(id)], do: %Entry{kind: :rewrite, record: record}
  end

  # Between its turn and the loss more of the job may have been stored, or it was forgotten.
  defp as_known_now(%{kind: kind, record: %{id: id}} = entry) when kind in [:restore, :rewrite] do
    for {:ok, record} <- [Memory.fetch(id)], do: %{entry | record: record}
  end

  defp as_known_now(entry), do: [entry]

  # --- what became of a batch

  defp answered(state, entries, {:ok, replies}) do
    {state, again, _ids} =
      entries
      |> Outcome.pair(replies)
      |> Enum.reduce({state, [], MapSet.new()}, &settle/2)

    push_front(state, again |> Enum.reverse() |> Enum.concat())
  end

  # Never sent: what waits goes on waiting, and who wants to be accepted is refused.
  defp answered(state, entries, {:error, :down}) do
    entries = entries ++ :queue.to_list(state.queue)
    {acceptances, lasting} = Enum.split_with(entries, &(&1.kind == :accept))
    Enum.each(acceptances, &refuse(&1, Outcome.refusal(:unavailable)))
    queue = lasting |> Enum.map(&postpone/1) |> :queue.from_list()
    pause(%{state | queue: queue}, :unavailable)
  end

  # Nobody knows what of it was carried out. It is all sent again; an acceptance is taken back.
  defp answered(state, entries, {:error, _failure}) do
    again = Enum.map(entries, &postpone/1)
    state |> answered([], {:error, :down}) |> push_front(again)
  end

  defp settle({entry, :stored}, {state, again, rewritten}) do
    {stored(%{state | complaint: nil}, entry), again, rewritten}
  end

  defp settle({entry, :fenced}, {state, again, rewritten}) do
    {refused(state, entry), again, rewritten}
  end

  defp settle({%{kind: kind} = entry, :lost}, {state, again, rewritten})
       when kind in [:append, :finish] do
    id = Entry.id(entry)

    case if(id in rewritten, do: :before, else: rewrites(id)) do
      :before -> {state, [[entry] | again], rewritten}
      # It is not known here any more: it was fenced before.
      [] -> {refused(state, entry), again, rewritten}
      first -> {state, [first ++ [entry] | again], MapSet.put(rewritten, id)}
    end
  end

  defp settle({%{kind: :accept} = entry, outcome}, {state, again, rewritten}) do
    refuse(entry, Outcome.refusal(Outcome.reason(outcome)))
    {complain(state, outcome), again, rewritten}
  end

  # The scripts set aside what is damaged; where that is not enough, trying again is not, either.
  defp settle({entry, :lost}, {state, again, rewritten}) do
    {state |> complain(:lost) |> done(entry), again, rewritten}
  end

  defp settle({entry, outcome}, {state, again, rewritten}) do
    state = state |> complain(outcome) |> pause(Outcome.reason(outcome))
    {state, [[postpone(entry)] | again], rewritten}
  end

  # Once, however often it is tried.
  defp complain(%{complaint: outcome} = state, outcome), do: state

  defp complain(state, outcome) do
    Logger.error(
      "job store: #{Outcome.words(outcome)}; new jobs are refused, events wait in memory"
    )

    %{state | complaint: outcome}
  end

  defp stored(state, %{kind: :accept} = entry) do
    Memory.put(entry.record, entry.events)
    Memory.put_later(entry.record.id, nil)
    GenServer.reply(entry.from, :ok)
    retain(state, entry)
  end

  defp stored(state, %{kind: kind} = entry) when kind in [:append, :finish] do
    id = Entry.id(entry)
    Memory.remember([{entry.record, entry.event}])
    state = state |> drop_unstored(id) |> retain(entry)
    if entry.from, do: GenServer.reply(entry.from, :ok), else: tell(id, entry)
    state
  end

  defp stored(state, %{kind: :discard} = entry) do
    Memory.put_later(Entry.id(entry), nil)
    state
  end

  defp stored(state, entry), do: done(state, entry)

  defp done(state, entry) do
    if entry.from, do: GenServer.reply(entry.from, :ok)
    state
  end

  defp retain(state, %{record: record}) do
    if Record.ended?(record), do: Memory.forget_beyond(state.retention)
    state
  end

  defp tell(id, entry) do
    Followers.tell(id, [entry.event])
    if entry.kind == :finish, do: Followers.ended(id)
    :ok
  end

  # The oldest of its events is stored.
  defp drop_unstored(state, id) do
    left = :queue.drop(Map.fetch!(state.unstored, id))

    if :queue.is_empty(left) do
      Memory.put_later(id, nil)
      %{state | unstored: Map.delete(state.unstored, id)}
    else
      put_in(state.unstored[id], left)
    end
  end

  # Another gateway owns the job, or an acceptance came to an id that is there.
  defp refused(state, %{kind: :accept} = entry) do
    refuse(entry, Outcome.refusal(:unavailable))
    state
  end

  defp refused(state, %{kind: kind} = entry) when kind in [:append, :finish] do
    if entry.from, do: GenServer.reply(entry.from, :fenced)
    lose(state, entry.record)
  end

  defp refused(state, %{kind: kind, record: record}) when kind in [:restore, :rewrite] do
    if Record.ended?(record), do: state, else: lose(state, record)
  end

  defp refused(state, entry), do: done(state, entry)

  # It may have come back meanwhile: then it has a later epoch.
  defp lose(state, %{id: id, epoch: epoch}) do
    with {:ok, %{epoch: ^epoch} = record} <- Memory.fetch(id) do
      Memory.drop(record)
      Telemetry.execute([:koma, :store, :fenced], %{count: 1}, %{id: id})
      Logger.warning("another gateway has adopted #{id}; it ends here untold", job: id)
      _told = with pid when is_pid(pid) <- Processes.whereis(id), do: send(pid, {:fenced, id})
      if Followers.any?(id), do: Watch.follow(id)
      %{state | unstored: Map.delete(state.unstored, id)}
    else
      _lost_before_or_back -> state
    end
  end

  # --- while nothing can be written

  defp pause(%{paused: nil} = state, reason), do: later(%{state | paused: reason})
  defp pause(state, _reason), do: state

  defp later(state) do
    _timer = Process.send_after(self(), :resume, @resume_ms)
    state
  end

  defp refuse(entry, error) do
    Memory.put_later(Entry.id(entry), nil)
    leave(entry)
    GenServer.reply(entry.from, {:error, error})
  end

  # Those that have ended already take no place.
  defp leave(%{record: record}), do: unless(Record.ended?(record), do: Memory.leave(record))

  defp postpone(%{kind: :accept} = entry) do
    leave(entry)
    GenServer.reply(entry.from, {:error, Outcome.refusal(:unavailable)})
    %{entry | kind: :discard, from: nil}
  end

  defp postpone(%{from: nil} = entry), do: entry

  defp postpone(entry) do
    GenServer.reply(entry.from, if(entry.kind == :forget, do: :ok, else: :later))
    %{entry | from: nil}
  end

  # --- stop

  defp flush(%{in_flight: {%{ref: ref}, entries}} = state, deadline) do
    receive do
      {^ref, result} -> %{state | in_flight: nil} |> answered(entries, result) |> flush(deadline)
    after
      max(deadline - now(), 0) -> flush(%{state | in_flight: nil}, deadline)
    end
  end

  defp flush(state, deadline) do
    if :queue.is_empty(state.queue) or state.paused != nil or now() >= deadline,
      do: :ok,
      else: state |> pump() |> flush(deadline)
  end

  # The lease ends, so that others need not wait for it.
  defp release do
    _may_be_away = Redis.command(["DEL", "koma:gateway:" <> Store.Redis.gateway()])
    :ok
  end

  defp now, do: System.monotonic_time(:millisecond)
end
