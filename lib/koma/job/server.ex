defmodule Koma.Job.Server do
  @moduledoc """
  One run: waits in the queue, runs on a model node, tells its jobs what happens, and ends. It
  begins with one job; equal requests (the same fingerprint) may join, and the run ends at the
  latest when the last of its jobs does.

  `record` is the run: the job with which it began, whose id it has towards queue and model node,
  and which goes on changing when that job has been cancelled and others have not. `members` are
  the live jobs (`Koma.Job.Members`). `attempt` counts dispatches (it is the fence against
  messages of an earlier attempt), `lease` is the slot that the run holds, `ref` the monitor of
  its model node.
  """
  use GenServer, restart: :temporary
  require Logger

  alias Koma.{Access, Error, Options, Queue, Scheduler, Store, Telemetry}
  alias Koma.Job.{Attempt, Audience, Cached, Event, Followers, Members, Outputs, Preview}
  alias Koma.Job.{Processes, Record, Retry, Story}
  alias Koma.Queue.Ticket
  alias Koma.Scheduler.Lease
  alias Koma.Wire.Messages

  # Each writes events of its own, so they are bounded; one more begins another run.
  @max_members 64
  # Longer than most steps; of those that wait in a long queue each is some kilobytes less.
  @hibernate_after_ms 1_000
  # Messages of the model node that are stored together: a stream of them is told all the same.
  @at_once 64

  @enforce_keys [:record, :attempt, :members]
  defstruct [:record, :attempt, :members, :lease, :ref, :preview, :queued_at, :started_at] ++
              [:place, total: 0, story: %Story{}]

  @type t :: %__MODULE__{record: Record.t(), attempt: non_neg_integer, members: Members.t()}

  @doc """
  Starts the process of a stored job that has not ended; `name` is where it registers, `submitter`
  the process that wants it. It goes on from whatever state is stored: a running job is run again.
  With `open: true` equal requests may join; `:ignore` if there is such a run already.
  """
  @spec start_link({Record.t(), GenServer.name(), submitter :: pid | nil, open: boolean}) ::
          GenServer.on_start()
  def start_link({%Record{} = record, name, submitter, options}) do
    arguments = {record, submitter, options}
    GenServer.start_link(__MODULE__, arguments, name: name, hibernate_after: @hibernate_after_ms)
  end

  @doc "A stored job takes part in the run, if it may."
  @spec join(GenServer.server(), Record.t(), submitter :: pid | nil) :: :ok | :refused
  def join(run, record, submitter), do: ask(run, {:join, record, submitter})

  @doc "The job as clients see it; this and what follows answer `:ended` for jobs that have."
  @spec get(GenServer.server(), Members.id()) :: map | :ended
  def get(run, id), do: ask(run, {:get, id})

  @doc "The job as it joined the queue, with the place that it was told: nobody has to count."
  @spec accepted(GenServer.server(), Members.id()) :: map | :ended
  def accepted(run, id), do: ask(run, {:accepted, id})

  @doc "Cancels the job; when this returns, it has ended."
  @spec cancel(GenServer.server(), Members.id()) :: :ok | :ended
  def cancel(run, id), do: ask(run, {:cancel, id})

  @doc """
  What a follower that just joined needs: the job, its events after a number, the latest preview.
  What follows is told to it, and the job is wanted while it lives or until it leaves.
  """
  @spec catch_up(GenServer.server(), Members.id(), non_neg_integer | :none) ::
          {map, [Event.t()], Preview.t() | nil} | :ended
  def catch_up(run, id, after_seq), do: ask(run, {:catch_up, id, after_seq})

  @doc "The calling process follows the job no longer; what was sent to it, was sent before."
  @spec leave(GenServer.server(), Members.id()) :: :ok
  def leave(run, id), do: ask(run, {:leave, id})

  defp ask(run, question), do: GenServer.call(run, question, :infinity)

  @impl GenServer
  def init({record, submitter, open: open?}) do
    # To leave word when the gateway stops: what still runs then was not lost with it.
    _was = Process.flag(:trap_exit, true)

    if not open? or Processes.open(record) == :ok do
      Logger.metadata(job: record.id)
      members = Members.add(%{}, record, submitter)
      attempt = max(record.attempt, Followers.attempts(record.id))
      state = %__MODULE__{record: record, attempt: attempt, members: members}
      {:ok, state, {:continue, :enter}}
    else
      :ignore
    end
  end

  @impl GenServer
  def handle_continue(:enter, %{record: record} = state) do
    if record.state == "running",
      do: again(state, Retry.interrupted(record, Followers.attempts(record.id) > 0)),
      else: {:noreply, enqueue(state)}
  end

  @impl GenServer
  def handle_call({:join, record, submitter}, _from, state) do
    if joins?(record, state),
      do: {:reply, :ok, welcome(state, record, submitter)},
      else: {:reply, :refused, state}
  end

  def handle_call({:leave, id}, {pid, _tag}, state) do
    members = Members.update_audience(state.members, id, &Audience.leave(&1, pid))
    {:reply, :ok, %{state | members: members}}
  end

  def handle_call(question, _from, state) when not is_map_key(state.members, elem(question, 1)) do
    {:reply, :ended, state}
  end

  def handle_call({:get, id}, _from, state), do: {:reply, to_map(state, id), state}

  def handle_call({:accepted, id}, _from, state) do
    position = if waits?(state), do: state.place["position"]
    {:reply, Record.to_map(state.members[id].record, position), state}
  end

  def handle_call({:cancel, id}, from, state) do
    state = depart(state, id, "cancelled", Error.new("cancelled", "The job was cancelled"))
    GenServer.reply(from, :ok)
    go_on(state)
  end

  def handle_call({:catch_up, id, after_seq}, {pid, _tag}, state) do
    members = Members.update_audience(state.members, id, &Audience.follow(&1, pid))
    {record, events} = stored(state, id, after_seq)
    caught_up = {Record.to_map(record, position(state)), events, state.preview}
    {:reply, caught_up, %{state | members: members}}
  end

  @impl GenServer
  def handle_info({:dispatch, %Lease{} = lease}, state), do: dispatch(state, lease)

  def handle_info({:place, place}, %{record: record, lease: nil} = state)
      when record.state == "queued" do
    {:noreply, emit(%{state | place: place}, "queued", place)}
  end

  def handle_info({:place, _told_too_late}, state), do: {:noreply, state}

  # What the model node said meanwhile is stored with one call.
  def handle_info({:model_node, _id, attempt, message}, %{attempt: attempt, lease: lease} = state)
      when lease != nil do
    message |> model_node(state) |> model_node_said_more(@at_once) |> flush()
  end

  def handle_info({:model_node, _id, _attempt, _of_an_earlier_attempt}, state) do
    {:noreply, state}
  end

  def handle_info({:DOWN, ref, :process, _pid, _reason}, %{ref: ref} = state) do
    model_node({:lost, Retry.unreachable(state.lease.node, state.lease.peer)}, state)
  end

  def handle_info({:DOWN, ref, :process, _pid, _reason}, state) do
    {:noreply, %{state | members: Members.down(state.members, ref)}}
  end

  def handle_info({:absent, timer}, state) do
    case Members.absent(state.members, timer) do
      nil ->
        {:noreply, state}

      id ->
        message = "Nobody followed the job for #{state.members[id].audience.grace_ms} ms"
        state |> depart(id, "cancelled", Error.new("cancelled", message)) |> go_on()
    end
  end

  def handle_info({:deadline, id}, state) when is_map_key(state.members, id) do
    message = "The deadline of #{state.members[id].record.deadline_ms} ms passed"
    state |> depart(id, "expired", Error.new("expired", message)) |> go_on()
  end

  def handle_info({:deadline, _of_a_job_that_ended}, state), do: {:noreply, state}

  # Another gateway has adopted the job: here it is over without an end.
  def handle_info({:fenced, id}, state) when is_map_key(state.members, id) do
    state = if map_size(state.members) == 1, do: let_go(state), else: state
    :ok = Processes.leave(id)
    go_on(%{state | members: Map.delete(state.members, id)})
  end

  def handle_info({:fenced, _of_a_job_that_ended}, state), do: {:noreply, state}

  @impl GenServer
  def terminate(reason, %{record: %{state: "running"}} = state)
      when reason == :shutdown or elem(reason, 0) == :shutdown do
    retrying(state, Retry.stopped())
  catch
    # The store stopped before, of an error: the job is found as one that runs.
    :exit, _no_store -> state
  end

  def terminate(_reason, state), do: state

  # --- jobs that come and go

  # Who is interactive does not wait behind those who are not, and wants previews.
  defp joins?(record, state) do
    map_size(state.members) < @max_members and
      (state.record.priority == "interactive" or record.priority == "batch")
  end

  defp welcome(state, %Record{id: id} = record, submitter) do
    :ok = Processes.join(id)
    # It may have been promised a place before there was a run to join.
    Queue.leave(record.model, id)
    place = %{"position" => position(state) || 1, "wait_ms" => nil}
    happened = [{"queued", place} | Story.events(state.story)]
    members = Members.join(state.members, record, submitter, happened)
    if map_size(members) == @max_members, do: Processes.close(state.record)
    %{state | members: members}
  end

  # One job ends and the run goes on, unless it was the last.
  defp depart(state, id, type, error) do
    if map_size(state.members) == 1 do
      state |> let_go() |> ended(type, error)
    else
      members = Members.finish(state.members, [id], type, Error.to_map(error), error.code)
      :ok = Processes.leave(id)
      %{state | members: members}
    end
  end

  defp go_on(%{members: members} = state) when members == %{}, do: {:stop, :normal, state}
  defp go_on(state), do: {:noreply, state}

  # --- waiting

  defp enqueue(state) do
    enqueue(state, Retry.class(state.record, Options.get().max_attempts))
  end

  defp enqueue(%{record: record} = state, class) do
    ticket = Ticket.new(record, class)
    place = Queue.enqueue(record.model, ticket)
    emit(%{state | queued_at: now(), place: place}, "queued", place)
  end

  # --- running

  defp model_node_said_more({:noreply, %{attempt: attempt, lease: lease} = state}, left)
       when lease != nil and left > 0 do
    receive do
      {:model_node, _id, ^attempt, message} ->
        message |> model_node(state) |> model_node_said_more(left - 1)
    after
      0 -> {:noreply, state}
    end
  end

  defp model_node_said_more(enough_or_over, _left), do: enough_or_over

  defp flush({:noreply, state}), do: {:noreply, %{state | members: Members.flush(state.members)}}
  defp flush({:stop, :normal, state}), do: {:stop, :normal, state}

  defp dispatch(state, lease) do
    state = %{state | attempt: state.attempt + 1, lease: lease, preview: nil, total: 0}

    :ok = Followers.attempted(state.record.id, state.attempt)

    previews? = state.record.priority == "interactive" or Members.followed?(state.members)

    case Attempt.prepare(state.record, state.attempt, lease, previews?) do
      {:ok, submit} ->
        Lease.submit(lease, submit)
        {:noreply, %{state | ref: Process.monitor(lease.pid)}}

      {:error, error} ->
        Scheduler.release(lease, state.record.id)
        {:stop, :normal, failed(state, error)}
    end
  end

  defp model_node(%Messages.Accepted{} = accepted, state) do
    {:noreply, started(state, accepted.total, accepted.estimate_ms)}
  end

  defp model_node(%Messages.Progress{} = progress, state) do
    data = Map.take(progress, [:phase, :step, :total, :eta_ms])
    data = for {name, value} <- data, into: %{}, do: {Atom.to_string(name), value}
    data = data |> Map.put("attempt", state.attempt) |> put_prompts(progress)
    {:noreply, note(%{ensure_started(state) | total: progress.total}, "progress", data)}
  end

  defp model_node(%Messages.Token{index: index, text: text}, state) do
    data = %{"index" => index, "text" => text, "attempt" => state.attempt}
    {:noreply, state |> ensure_started() |> note("token", data)}
  end

  defp model_node(%Messages.Preview{} = preview, state) do
    fields = preview |> Map.from_struct() |> Map.delete(:id) |> Map.put(:total, state.total)
    preview = struct!(Preview, fields)
    members = Members.flush(state.members)
    Members.show(members, preview)
    {:noreply, %{state | preview: preview, members: members}}
  end

  defp model_node(%Messages.Done{} = done, state) do
    state = ensure_started(state)

    dir = Store.work_dir(state.record.id, state.attempt)

    with :ok <- Access.check_room(state.record.key, Outputs.bytes(done.outputs)),
         {:ok, outputs} <- Outputs.adopt(done.outputs, dir) do
      {:stop, :normal, completed(state, done, outputs)}
    else
      {:error, error} -> {:stop, :normal, failed(state, error)}
    end
  end

  # Its memory ran out with others beside it: that is nobody's fault, but not without end.
  defp model_node(%Messages.Failed{scope: "batch"} = failed, state) do
    again(state, Error.new(failed.code, failed.message))
  end

  defp model_node(%Messages.Failed{code: "cancelled"} = failed, state) do
    {:stop, :normal, cancelled(state, failed.message)}
  end

  defp model_node(%Messages.Failed{} = failed, state) do
    details = failed |> Map.take([:field, :value, :bound]) |> Keyword.new()
    {:stop, :normal, failed(state, Error.new(failed.code, failed.message, details))}
  end

  defp model_node({:lost, %Error{} = error}, state), do: again(state, error)

  # Another gateway was faster: nothing has run, so nothing is lost but the place in the queue, and
  # that is given back.
  defp model_node(:refused, state) do
    Telemetry.execute([:koma, :cluster, :refused], %{count: 1}, %{peer: state.lease.peer})
    state = forget_lease(state)
    {:noreply, enqueue(state, Retry.refused(state.record, Options.get().max_attempts))}
  end

  # A worker of an earlier version does not tell them.
  defp put_prompts(data, %{prompts: %{} = prompts}), do: Map.put(data, "prompts", prompts)
  defp put_prompts(data, _untold), do: data

  defp again(state, error) do
    state = state |> ensure_started() |> forget_lease()

    case Retry.lost(state.record, error, Options.get().max_attempts) do
      {:failed, error} ->
        {:stop, :normal, failed(state, error)}

      {:again, error} ->
        about = %{attempt: state.attempt, code: error.code}
        Members.measure(state.members, [:koma, :job, :retrying], %{count: 1}, about)
        {:noreply, state |> retrying(error) |> enqueue()}
    end
  end

  defp retrying(state, error), do: emit(state, "retrying", Retry.told(state.attempt, error))

  # A model node may die before it says that it took the job; the attempt counts all the same.
  defp ensure_started(%{record: %{state: "running"}} = state), do: state
  defp ensure_started(state), do: started(state, 0, 0)

  defp started(%{record: %{state: "running"}} = state, _total, _estimate_ms), do: state

  defp started(state, total, estimate_ms) do
    metadata = %{attempt: state.attempt, node: state.lease.node}

    Members.measure(
      state.members,
      [:koma, :job, :started],
      %{queue_ms: now() - state.queued_at},
      metadata
    )

    data = %{
      "attempt" => state.attempt,
      "node" => state.lease.node,
      "total" => total,
      "estimate_ms" => estimate_ms
    }

    note(%{state | total: total, started_at: now()}, "started", data)
  end

  # --- ending: one path for every way to end

  defp completed(%{record: record} = state, done, outputs) do
    Queue.measured(record.model, {record.task, record.size}, now() - state.started_at)

    data = %{
      "outputs" => outputs,
      "seed" => done.seed,
      "timings" => done.timings,
      "attempt" => state.attempt
    }

    state = finish(state, "completed", data, nil)
    Cached.keep(state.record)
    state
  end

  defp cancelled(state, message), do: ended(state, "cancelled", Error.new("cancelled", message))
  defp failed(state, %Error{} = error), do: ended(state, "failed", error)
  defp ended(state, type, error), do: finish(state, type, Error.to_map(error), error.code)

  defp finish(%{record: record} = state, type, data, code) do
    Processes.close(record)
    record = Record.apply(record, Record.event(record, type, data))
    members = Members.finish(state.members, Map.keys(state.members), type, data, code)
    # Nobody waits for that.
    Attempt.clean_all(record, state.attempt)
    # The job with which the run began may have ended long before it.
    Followers.ended(record.id)
    %{state | record: record, members: members}
  end

  # Leaves the queue, or tells the model node to stop. What comes later is of no interest; the
  # model node's server deletes the outputs when Python has let go.
  defp let_go(%{lease: nil, record: record} = state) do
    Queue.leave(record.model, record.id)
    release_dispatched(state)
  end

  defp let_go(%{lease: lease} = state) do
    Lease.cancel(lease, state.record.id)
    state
  end

  # The lease may have been given just before the job left the queue.
  defp release_dispatched(state) do
    receive do
      {:dispatch, lease} -> Scheduler.release(lease, state.record.id)
    after
      0 -> :ok
    end

    state
  end

  defp forget_lease(state) do
    if state.ref, do: Process.demonitor(state.ref, [:flush])
    Attempt.clean(state.record, state.attempt)
    %{state | lease: nil, ref: nil, preview: nil}
  end

  # --- events

  defp emit(state, type, data) do
    state = note(state, type, data)
    %{state | members: Members.flush(state.members)}
  end

  # To the run, which nobody stores, and to its jobs.
  defp note(%{record: record} = state, type, data) do
    record = Record.apply(record, Record.event(record, type, data))
    story = Story.note(state.story, type, data)
    %{state | record: record, story: story, members: Members.note(state.members, type, data)}
  end

  defp to_map(state, id) do
    {record, _events} = stored(state, id, :none)
    Record.to_map(record, position(state))
  end

  # What is stored, which is what was told; the process may be ahead of it.
  defp stored(state, id, after_seq) do
    case Store.Jobs.read(id, after_seq) do
      {:ok, record, events} -> {record, events}
      _adopted_by_another -> {state.members[id].record, []}
    end
  end

  defp position(%{record: record} = state) do
    if waits?(state), do: Queue.position(record.model, record.id)
  end

  defp waits?(%{record: record, lease: lease}), do: record.state == "queued" and lease == nil

  defp now, do: System.monotonic_time(:millisecond)
end
