defmodule Koma.Job.Server do
  @moduledoc """
  One live job: waits in the queue, runs on a model node, tells its subscribers what happens, and
  ends. Everything that happens is an event: checked against the lifecycle table, stored, then
  told, in this order, so that nobody ever saw something that is not stored.

  `record` is what is stored; the rest is needed only while the job is live: `attempt` counts
  dispatches (it is the fence against messages of an earlier attempt), `lease` is the slot that
  the job holds, `ref` the monitor of its model node.
  """
  use GenServer, restart: :temporary
  require Logger

  alias Koma.{Error, ModelNode, Options, Queue, Scheduler, Store, Telemetry}
  alias Koma.Job.{Attempt, Audience, Cached, Event, Followers, Outputs, Preview, Record, Retry}
  alias Koma.Queue.{Cost, Ticket}
  alias Koma.Scheduler.Lease
  alias Koma.Wire.Messages

  @enforce_keys [:record, :attempt, :audience]
  defstruct [
    :record,
    :attempt,
    :audience,
    :lease,
    :ref,
    :preview,
    :queued_at,
    :started_at,
    total: 0
  ]

  @type t :: %__MODULE__{record: Record.t(), attempt: non_neg_integer}

  @doc """
  Starts the process of a stored job that has not ended; `name` is where it registers, `submitter`
  the process that wants it. It goes on from whatever state is stored: a running job is run again.
  """
  @spec start_link({Record.t(), GenServer.name(), submitter :: pid | nil}) ::
          GenServer.on_start()
  def start_link({%Record{} = record, name, submitter}) do
    GenServer.start_link(__MODULE__, {record, submitter}, name: name)
  end

  @doc "The job as clients see it."
  @spec get(GenServer.server()) :: map
  def get(job), do: GenServer.call(job, :get, :infinity)

  @doc "Cancels the job; when this returns, it has ended."
  @spec cancel(GenServer.server()) :: :ok
  def cancel(job), do: GenServer.call(job, :cancel, :infinity)

  @doc "Ends the job as failed, whatever it was doing."
  @spec fail(GenServer.server(), Error.t()) :: :ok
  def fail(job, error), do: GenServer.call(job, {:fail, error}, :infinity)

  @doc """
  What a follower that just joined needs: the job, its events after a number, the latest preview.
  Every later event is told to it, and the job is wanted while it lives or until it leaves.
  """
  @spec catch_up(GenServer.server(), non_neg_integer) ::
          {map, [Event.t()], Preview.t() | nil}
  def catch_up(job, after_seq), do: GenServer.call(job, {:catch_up, after_seq}, :infinity)

  @doc "The calling process follows the job no longer; what was sent to it, was sent before."
  @spec leave(GenServer.server()) :: :ok
  def leave(job), do: GenServer.call(job, :leave, :infinity)

  @impl GenServer
  def init({record, submitter}) do
    Logger.metadata(job: record.id)
    grace_ms = Options.get().absence_ms
    audience = Audience.new(record, grace_ms, submitter, Followers.pids(record.id))
    attempt = max(record.attempt, Followers.attempts(record.id))
    state = %__MODULE__{record: record, attempt: attempt, audience: audience}
    {:ok, state, {:continue, :enter}}
  end

  @impl GenServer
  def handle_continue(:enter, %{record: record} = state) do
    :ok = start_deadline(record)
    tell_untold(record)

    if record.state == "running",
      do: {:noreply, interrupted(state)},
      else: {:noreply, enqueue(state)}
  end

  @impl GenServer
  def handle_call(:get, _from, state), do: {:reply, to_map(state), state}

  def handle_call(:cancel, from, state) do
    state = state |> let_go() |> cancelled("The job was cancelled")
    GenServer.reply(from, :ok)
    {:stop, :normal, state}
  end

  def handle_call({:fail, error}, from, state) do
    state = state |> let_go() |> failed(error)
    GenServer.reply(from, :ok)
    {:stop, :normal, state}
  end

  def handle_call({:catch_up, after_seq}, {pid, _tag}, %{record: record} = state) do
    state = %{state | audience: Audience.follow(state.audience, pid)}
    {:reply, {to_map(state), Store.Jobs.events(record.id, after_seq), state.preview}, state}
  end

  def handle_call(:leave, {pid, _tag}, state) do
    {:reply, :ok, %{state | audience: Audience.leave(state.audience, pid)}}
  end

  @impl GenServer
  def handle_info({:dispatch, %Lease{} = lease}, state), do: dispatch(state, lease)

  def handle_info({:position, position, wait_ms}, %{record: record, lease: nil} = state)
      when record.state == "queued" do
    {:noreply, emit(state, "queued", %{"position" => position, "wait_ms" => wait_ms})}
  end

  def handle_info({:position, _told_too_late, _wait_ms}, state), do: {:noreply, state}

  def handle_info({:model_node, _id, attempt, message}, %{attempt: attempt, lease: lease} = state)
      when lease != nil do
    model_node(message, state)
  end

  def handle_info({:model_node, _id, _attempt, _of_an_earlier_attempt}, state) do
    {:noreply, state}
  end

  def handle_info({:DOWN, ref, :process, _pid, _reason}, %{ref: ref} = state) do
    error = Error.new("node_crashed", "The process of #{state.lease.node} in the gateway died")
    model_node({:lost, error}, state)
  end

  def handle_info({:DOWN, ref, :process, _pid, _reason}, state) do
    case Audience.down(state.audience, ref) do
      {:ok, audience} -> {:noreply, %{state | audience: audience}}
      :unknown -> {:noreply, state}
    end
  end

  def handle_info({:absent, timer}, state) do
    if Audience.absent?(state.audience, timer) do
      message = "Nobody followed the job for #{state.audience.grace_ms} ms"
      {:stop, :normal, state |> let_go() |> cancelled(message)}
    else
      {:noreply, state}
    end
  end

  def handle_info(:deadline, state) do
    state = let_go(state)
    message = "The deadline of #{state.record.deadline_ms} ms passed"
    {:stop, :normal, ended(state, "expired", Error.new("expired", message))}
  end

  # --- waiting

  defp enqueue(%{record: record} = state) do
    ticket = Ticket.new(record, Retry.class(record, Options.get().max_attempts))
    {position, wait_ms} = Queue.enqueue(record.model, ticket)

    %{state | queued_at: now()}
    |> emit("queued", %{"position" => position, "wait_ms" => wait_ms})
  end

  # The gateway stopped while the job ran; nobody is to blame, so it costs the job nothing.
  defp interrupted(%{record: record} = state) do
    data = %{
      "attempt" => record.attempt,
      "code" => "unavailable",
      "message" => "The gateway stopped while the job ran; it is run again"
    }

    state |> emit("retrying", data) |> enqueue()
  end

  # --- running

  defp dispatch(state, lease) do
    state = %{state | attempt: state.attempt + 1, lease: lease, preview: nil, total: 0}

    :ok = Followers.attempted(state.record.id, state.attempt)

    case Attempt.prepare(state.record, state.attempt) do
      {:ok, submit} ->
        ModelNode.submit(lease.pid, submit)
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
    data = %{
      "phase" => progress.phase,
      "step" => progress.step,
      "total" => progress.total,
      "eta_ms" => progress.eta_ms,
      "attempt" => state.attempt
    }

    {:noreply, emit(%{ensure_started(state) | total: progress.total}, "progress", data)}
  end

  defp model_node(%Messages.Token{index: index, text: text}, state) do
    data = %{"index" => index, "text" => text, "attempt" => state.attempt}
    {:noreply, state |> ensure_started() |> emit("token", data)}
  end

  defp model_node(%Messages.Preview{} = preview, state) do
    fields = preview |> Map.from_struct() |> Map.delete(:id) |> Map.put(:total, state.total)
    preview = struct!(Preview, fields)
    Followers.show(state.record.id, preview)
    {:noreply, %{state | preview: preview}}
  end

  defp model_node(%Messages.Done{} = done, state) do
    state = ensure_started(state)

    case Outputs.adopt(done.outputs, Store.work_dir(state.record.id, state.attempt)) do
      {:ok, outputs} -> {:stop, :normal, completed(state, done, outputs)}
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

  defp again(state, error) do
    state = state |> ensure_started() |> forget_lease()

    case Retry.lost(state.record, error, Options.get().max_attempts) do
      {:failed, error} ->
        {:stop, :normal, failed(state, error)}

      {:again, error} ->
        data = %{"attempt" => state.attempt, "code" => error.code, "message" => error.message}
        about = %{attempt: state.attempt, code: error.code}
        measure(state, [:koma, :job, :retrying], %{count: 1}, about)
        {:noreply, state |> emit("retrying", data) |> enqueue()}
    end
  end

  # A model node may die before it says that it took the job; the attempt counts all the same.
  defp ensure_started(%{record: %{state: "running"}} = state), do: state
  defp ensure_started(state), do: started(state, 0, 0)

  defp started(%{record: %{state: "running"}} = state, _total, _estimate_ms), do: state

  defp started(state, total, estimate_ms) do
    metadata = %{attempt: state.attempt, node: state.lease.node}
    measure(state, [:koma, :job, :started], %{queue_ms: now() - state.queued_at}, metadata)

    data = %{
      "attempt" => state.attempt,
      "node" => state.lease.node,
      "total" => total,
      "estimate_ms" => estimate_ms
    }

    emit(%{state | total: total, started_at: now()}, "started", data)
  end

  # --- ending: one path for every way to end

  defp completed(%{record: record} = state, done, outputs) do
    work = Cost.work(record.task, record.params)
    Queue.measured(record.model, work, now() - state.started_at)

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

  defp finish(state, type, data, code) do
    Attempt.clean_all(state.record, state.attempt)
    state = emit(state, type, data)
    Followers.ended(state.record.id)
    duration = System.system_time(:millisecond) - state.record.created_at
    about = %{state: type, code: code}
    measure(state, [:koma, :job, :finished], %{duration_ms: duration}, about)
    state
  end

  # Leaves the queue, or tells the model node to stop. What comes later is of no interest; the
  # model node's server deletes the outputs when Python has let go.
  defp let_go(%{lease: nil, record: record} = state) do
    Queue.leave(record.model, record.id)
    release_dispatched(state)
  end

  defp let_go(%{lease: lease} = state) do
    ModelNode.cancel(lease.pid, state.record.id)
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

  defp emit(%{record: record} = state, type, data) do
    event = Record.event(record, type, data)
    record = Record.apply(record, event)
    :ok = Store.Jobs.append(record, event)
    Followers.tell(record.id, event)
    %{state | record: record}
  end

  # The process before this one, or the store, may have died between storing and telling.
  defp tell_untold(%Record{id: id}) do
    told = Followers.told(id)
    if told, do: Enum.each(Store.Jobs.events(id, told), &Followers.tell(id, &1))
  end

  defp measure(%{record: record}, event, measurements, metadata) do
    common = Map.take(record, [:id, :task, :model])
    Telemetry.execute(event, measurements, Map.merge(common, metadata))
  end

  defp to_map(%{record: %{state: "queued"} = record, lease: nil}) do
    Record.to_map(record, Queue.position(record.model, record.id))
  end

  defp to_map(%{record: record}), do: Record.to_map(record)

  defp start_deadline(%Record{deadline_ms: nil}), do: :ok

  defp start_deadline(%Record{deadline_ms: deadline_ms, created_at: created_at}) do
    left = created_at + deadline_ms - System.system_time(:millisecond)
    _timer = Process.send_after(self(), :deadline, max(left, 0))
    :ok
  end

  defp now, do: System.monotonic_time(:millisecond)
end
