defmodule Koma.Pipeline.Server do
  @moduledoc """
  The process of one live pipeline: submits the job of each stage as soon as what it needs has
  completed, tells subscribers what happens to the jobs, and ends with the last stage.

  Everything that happens is an event: applied to the record, written, then told. The process
  always begins from what is written, so one that crashed, or whose server was stopped, goes on:
  jobs are followed from the last of their events that was taken in.

  A job that cannot be submitted at this moment (`overloaded`, `unavailable`, `draining`, `limit_reached`) is
  tried again for ten minutes; other refusals fail the stage. A stage that needs a failed one
  fails with `stage_failed`; those that do not, go on. (A process that dies between the submission of
  a job and its first event submits it again; the first one runs and nobody waits for it.)

  A pipeline with `on_disconnect` `cancel` that nobody wants any more (`Koma.Job.Audience`) is cancelled; its
  jobs are not watched, as it is the pipeline that waits for them.
  """

  use GenServer, restart: :transient

  require Logger

  alias Koma.{Caller, Error, Follower, Options, Telemetry}
  alias Koma.Job.{Audience, Event}
  alias Koma.Pipeline.{Files, Followers, Graph, Record, Sizes, Stage}
  alias Koma.Store.Artifacts

  @registry Koma.Pipeline.Registry
  @again ~w(overloaded unavailable draining limit_reached)
  @again_ms 1_000
  @give_up_ms 600_000
  # Taken up more often than this without ending, a pipeline is what breaks its process.
  @max_starts 20

  @enforce_keys [:record, :events, :file, :audience]
  defstruct [
    :record,
    :events,
    :file,
    :audience,
    timer: nil,
    previews: %{},
    jobs: %{},
    refused_since: %{}
  ]

  @type t :: %__MODULE__{
          record: Record.t(),
          events: newest_first :: [Event.t()],
          file: :file.fd(),
          audience: Audience.t(),
          timer: reference | nil,
          previews: %{(stage :: String.t()) => Koma.Job.Preview.t()},
          jobs: %{(job :: String.t()) => stage :: String.t()},
          refused_since: %{(stage :: String.t()) => ms :: integer}
        }

  @doc """
  Starts the process of a stored pipeline, which `submitter` wants, if that is known; `:ignore` if it has
  ended.
  """
  @spec start_link({String.t(), submitter :: pid | nil}) :: GenServer.on_start()
  def start_link({id, submitter}) do
    GenServer.start_link(__MODULE__, {id, submitter}, name: {:via, Registry, {@registry, id}})
  end

  @doc "The pipeline as clients see it."
  @spec get(pid) :: map
  def get(pipeline), do: GenServer.call(pipeline, :get)

  @doc "Cancels it; when this returns, it has ended."
  @spec cancel(pid) :: :ok
  def cancel(pipeline), do: GenServer.call(pipeline, :cancel, :infinity)

  @doc """
  The pipeline, its events after `seq`, and the latest preview of each running stage: the calling process
  follows it from now on.
  """
  @spec catch_up(pid, non_neg_integer) :: {map, [Event.t()], [Follower.preview()]}
  def catch_up(pipeline, seq), do: GenServer.call(pipeline, {:catch_up, seq})

  @doc "The calling process follows it no longer; what was sent to it, was sent before."
  @spec leave(pid) :: :ok
  def leave(pipeline), do: GenServer.call(pipeline, :leave)

  @impl true
  def init({id, submitter}) do
    {:ok, record, events} = Files.read(id)
    # A process that died may have stored it and not told it; who knows it, skips it.
    if events != [], do: Followers.tell(id, List.last(events))

    if Record.ended?(record) do
      :ok = Sizes.ended(id)
      :ignore
    else
      file = Files.open(id)
      events = Enum.reverse(events)
      audience = audience(record, submitter)
      state = %__MODULE__{record: record, events: events, file: file, audience: audience}
      store(state, Files.taken_up(file))
      {:ok, state, {:continue, :resume}}
    end
  end

  @impl true
  def handle_continue(:resume, %__MODULE__{record: %{starts: starts}} = state)
      when starts >= @max_starts do
    error = Error.new("internal", "The pipeline was taken up #{starts} times and never ended.")
    finish(emit(state, "failed", Map.put(Error.to_map(error), "stage", nil)))
  end

  def handle_continue(:resume, state) do
    running = for {name, %{state: "running"} = stage} <- state.record.stages, do: {name, stage}

    :ok = renew_artifacts(state)

    running
    |> Enum.reduce(state, fn {name, stage}, state -> follow(state, name, stage.job) end)
    |> advance()
  end

  @impl true
  def handle_call(:get, _from, state), do: {:reply, Record.to_map(state.record), state}

  def handle_call(:leave, {pid, _tag}, state) do
    {:reply, :ok, %__MODULE__{state | audience: Audience.leave(state.audience, pid)}}
  end

  def handle_call({:catch_up, seq}, {pid, _tag}, state) do
    state = %__MODULE__{state | audience: Audience.follow(state.audience, pid)}
    missed = state.events |> Enum.take_while(&(&1.seq > seq)) |> Enum.reverse()
    {:reply, {Record.to_map(state.record), missed, Map.to_list(state.previews)}, state}
  end

  def handle_call(:cancel, from, state) do
    state = give_up(state, "The pipeline was cancelled.")
    GenServer.reply(from, :ok)
    finish(state)
  end

  @impl true
  def handle_info(:advance, state), do: advance(%__MODULE__{state | timer: nil})

  def handle_info({:koma_events, job, events}, state) when is_map_key(state.jobs, job) do
    name = state.jobs[job]
    events |> Enum.reduce(state, &job_event(&2, name, job, &1)) |> advance()
  end

  def handle_info({:koma_preview, job, preview}, state) when is_map_key(state.jobs, job) do
    {:noreply, preview(state, state.jobs[job], preview)}
  end

  def handle_info(:renew_artifacts, state) do
    :ok = renew_artifacts(state)
    {:noreply, state}
  end

  def handle_info({:DOWN, ref, :process, _pid, _reason}, state) do
    case Audience.down(state.audience, ref) do
      {:ok, audience} -> {:noreply, %__MODULE__{state | audience: audience}}
      :unknown -> {:noreply, state}
    end
  end

  def handle_info({:absent, timer}, state) do
    if Audience.absent?(state.audience, timer) do
      message = "Nobody followed the pipeline for #{state.audience.grace_ms} ms."
      state |> give_up(message) |> finish()
    else
      {:noreply, state}
    end
  end

  def handle_info({:follow, name, job}, state), do: state |> follow(name, job) |> advance()
  def handle_info(_message, state), do: {:noreply, state}

  # What a later stage needs is named by no job yet, and must outlive its grace period.
  defp renew_artifacts(%__MODULE__{record: record}) do
    made = for {_name, %{"artifact" => id}} <- record.outputs, do: id
    told = Enum.flat_map([record.graph | record.graph.stages], &Map.values(&1.inputs))

    made
    |> Enum.concat(told)
    |> Enum.filter(&is_binary/1)
    |> Enum.each(&Artifacts.renew(&1, record.key))

    pause_ms = max(div(Options.get().grace_ms, 3), 1_000)
    _timer = Process.send_after(self(), :renew_artifacts, pause_ms)
    :ok
  catch
    # The core starts again, and with it the time until artifacts are collected.
    :exit, _no_store ->
      _timer = Process.send_after(self(), :renew_artifacts, 1_000)
      :ok
  end

  # Starts what may start, fails what never will, and ends when nothing is left to wait for.
  defp advance(state) do
    submitted = Map.values(state.jobs)
    ready = Enum.reject(Graph.ready(graph(state), states(state)), &(&1.name in submitted))
    before = states(state)
    state = Enum.reduce(ready, state, &start/2)
    blocked = Graph.blocked(graph(state), states(state))

    cond do
      blocked != [] -> blocked |> Enum.reduce(state, &block/2) |> advance()
      # A stage that was answered at once, from the cache, lets others start.
      states(state) != before -> advance(state)
      true -> settle(state)
    end
  end

  defp settle(state) do
    states = state |> states() |> Map.values()

    cond do
      Enum.any?(states, &(&1 in ~w(waiting running))) -> {:noreply, state}
      Enum.all?(states, &(&1 == "completed")) -> state |> complete() |> finish()
      true -> state |> fail() |> finish()
    end
  end

  defp give_up(state, message) do
    state = emit(state, "cancelled", Error.to_map(Error.new("cancelled", message)))
    # Jobs that cannot be reached now run to their end; nobody waits for them any more.
    Enum.each(state.jobs, fn {job, _stage} -> Koma.cancel(job, caller(state)) end)
    state
  end

  defp finish(state) do
    # This one counts as live: whoever waits for its end shall find it.
    live = MapSet.new(Koma.Pipeline.Supervisor.live())
    :ok = Files.prune(max(Options.get().retention_jobs - 1, 0), live)
    measured = %{duration_ms: System.system_time(:millisecond) - state.record.created_at}
    Telemetry.execute([:koma, :pipeline, :ended], measured, Map.take(state.record, [:id, :state]))
    {:stop, :normal, state}
  end

  defp complete(state), do: emit(state, "completed", %{"outputs" => state.record.outputs})

  # The stage that failed of itself is the reason, not one that only needed it.
  defp fail(%__MODULE__{record: record} = state) do
    failed =
      for %Stage{name: name} <- record.graph.stages,
          %{error: error} when error != nil <- [record.stages[name]],
          do: {name, error}

    {name, error} = Enum.find(failed, hd(failed), fn {_, e} -> e["code"] != "stage_failed" end)
    emit(state, "failed", Map.put(error, "stage", name))
  end

  defp block({%Stage{name: name}, failed}, state) do
    reason = state.record.stages[failed].error
    message = "The stage #{failed} failed: #{reason["message"]}"
    refuse(state, name, Error.new("stage_failed", message, value: reason["code"]))
  end

  # The job is kept whoever watches: the pipeline waits for it.
  defp start(%Stage{name: name} = stage, state) do
    with {:ok, request} <- Graph.job_request(graph(state), stage, state.record.outputs),
         request = Map.put(request, "on_disconnect", "keep"),
         {:ok, job} <- Koma.submit(request, caller(state)) do
      follow(state, name, job["id"])
    else
      {:error, %Error{code: code} = error} when code in @again -> try_again(state, name, error)
      {:error, error} -> refuse(state, name, error)
    end
  end

  defp try_again(state, name, error) do
    now = System.monotonic_time(:millisecond)
    since = Map.get(state.refused_since, name, now)

    if now - since > @give_up_ms do
      refuse(state, name, error)
    else
      timer =
        state.timer || Process.send_after(self(), :advance, error.retry_after_ms || @again_ms)

      refused_since = Map.put(state.refused_since, name, since)
      %__MODULE__{state | timer: timer, refused_since: refused_since}
    end
  end

  defp follow(state, name, job) do
    state = %__MODULE__{state | jobs: Map.put(state.jobs, job, name)}

    case Koma.subscribe(job, state.record.stages[name].job_seq, caller(state)) do
      {:ok, _job, events, preview} ->
        state = Enum.reduce(events, state, &job_event(&2, name, job, &1))
        if preview, do: preview(state, name, preview), else: state

      {:error, %Error{code: "unavailable"}} ->
        _timer = Process.send_after(self(), {:follow, name, job}, @again_ms)
        state

      {:error, error} ->
        refuse(%__MODULE__{state | jobs: Map.delete(state.jobs, job)}, name, error)
    end
  end

  # A process of the gateway that died may have left an event that is told twice, or a gap.
  defp job_event(state, name, job, %Event{seq: seq} = event) do
    case seq - state.record.stages[name].job_seq do
      1 -> next_job_event(state, name, job, event)
      later when later > 1 -> follow(state, name, job)
      _known -> state
    end
  end

  defp next_job_event(state, name, job, %Event{type: type} = event) do
    data = %{"stage" => name, "event" => type, "job" => job}
    state = emit(state, "stage", Map.put(data, "payload", Event.payload(event, job)))

    if Follower.terminal?(type) do
      jobs = Map.delete(state.jobs, job)
      %__MODULE__{state | jobs: jobs, previews: Map.delete(state.previews, name)}
    else
      state
    end
  end

  # A stage that fails without a job of its own, or before it got one.
  defp refuse(state, name, error) do
    data = %{"stage" => name, "event" => "failed", "job" => state.record.stages[name].job}
    emit(state, "stage", Map.put(data, "payload", Error.to_map(error)))
  end

  defp emit(state, type, data) do
    event = Record.event(state.record, type, data)
    state = %__MODULE__{state | record: Record.apply(state.record, event)}
    store(state, Files.append(state.file, event))

    measure(id(state), type, data)
    :ok = Followers.tell(id(state), event)
    %__MODULE__{state | events: [event | state.events]}
  end

  # What counts against the limits of its key, before anybody is told of the event.
  defp measure(id, "stage", data) do
    if Follower.terminal?(data["event"]), do: Sizes.measured(id, Files.bytes(id)), else: :ok
  end

  defp measure(id, _end, _data) do
    :ok = Sizes.measured(id, Files.bytes(id))
    :ok = Sizes.ended(id)
  end

  # The disk is full: the pipeline goes on in memory. After a restart it goes on from what was
  # stored, and learns the rest from its jobs again.
  defp store(_state, :ok), do: :ok

  defp store(state, {:error, reason}) do
    Logger.error("pipeline #{id(state)}: not stored: #{:file.format_error(reason)}")
  end

  defp preview(state, name, preview) do
    :ok = Followers.show(id(state), name, preview)
    %__MODULE__{state | previews: Map.put(state.previews, name, preview)}
  end

  defp audience(%Record{id: id, graph: graph}, submitter) do
    watched? = graph.on_disconnect == "cancel"
    Audience.new(watched?, Options.get().absence_ms, submitter, Followers.pids(id))
  end

  defp id(state), do: state.record.id
  defp graph(state), do: state.record.graph
  defp states(state), do: Record.states(state.record)
  defp caller(state), do: %Caller{key: state.record.key}
end
