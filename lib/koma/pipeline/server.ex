defmodule Koma.Pipeline.Server do
  @moduledoc """
  The process of one live pipeline: submits the job of each stage as soon as what it needs has
  completed, tells subscribers what happens to the jobs, and ends with the last stage.

  Everything that happens is an event: applied to the record, written, then told. The process
  always begins from what is written, so one that crashed, or whose server was stopped, goes on:
  jobs are followed from the last of their events that was taken in.

  A job that cannot be submitted at this moment (`overloaded`, `unavailable`, `draining`) is
  tried again for ten minutes; other refusals fail the stage. A stage that needs a failed one
  fails with `stage_failed`; those that do not, go on.
  """

  use GenServer, restart: :transient

  alias Koma.{Caller, Error, Follower}
  alias Koma.Job.Event
  alias Koma.Pipeline.{Files, Graph, Record, Stage}

  @registry Koma.Pipeline.Registry
  @again ~w(overloaded unavailable draining)
  @again_ms 1_000
  @give_up_ms 600_000
  # A subscriber this far behind sees a later preview instead.
  @long_mailbox 32
  # Taken up more often than this without ending, a pipeline is what breaks its process.
  @max_starts 20

  @enforce_keys [:record, :events, :file]
  defstruct [
    :record,
    :events,
    :file,
    timer: nil,
    subscribers: %{},
    previews: %{},
    followers: %{},
    refused_since: %{}
  ]

  @type t :: %__MODULE__{
          record: Record.t(),
          events: newest_first :: [Event.t()],
          file: :file.fd(),
          timer: reference | nil,
          subscribers: %{pid => monitor :: reference},
          previews: %{(stage :: String.t()) => Koma.Job.Preview.t()},
          followers: %{(stage :: String.t()) => Follower.t()},
          refused_since: %{(stage :: String.t()) => ms :: integer}
        }

  @doc "Starts the process of a stored pipeline; `:ignore` if it has ended."
  @spec start_link(String.t()) :: GenServer.on_start()
  def start_link(id) do
    GenServer.start_link(__MODULE__, id, name: {:via, Registry, {@registry, id}})
  end

  @doc "The pipeline as clients see it."
  @spec get(pid) :: map
  def get(pipeline), do: GenServer.call(pipeline, :get)

  @doc "Cancels it; when this returns, it has ended."
  @spec cancel(pid) :: :ok
  def cancel(pipeline), do: GenServer.call(pipeline, :cancel, :infinity)

  @doc "Lets the calling process follow it."
  @spec subscribe(pid, non_neg_integer) :: {map, [Event.t()], [Follower.preview()]}
  def subscribe(pipeline, seq), do: GenServer.call(pipeline, {:subscribe, seq})

  @doc "Ends that."
  @spec unsubscribe(pid) :: :ok
  def unsubscribe(pipeline), do: GenServer.call(pipeline, :unsubscribe)

  @impl true
  def init(id) do
    {:ok, record, events} = Files.read(id)

    if Record.ended?(record) do
      :ignore
    else
      file = Files.open(id)
      :ok = Files.taken_up(file)
      state = %__MODULE__{record: record, events: Enum.reverse(events), file: file}
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

    running
    |> Enum.reduce(state, fn {name, stage}, state -> follow(state, name, stage.job) end)
    |> advance()
  end

  @impl true
  def handle_call(:get, _from, state), do: {:reply, Record.to_map(state.record), state}

  def handle_call({:subscribe, seq}, {pid, _tag}, state) do
    missed = state.events |> Enum.take_while(&(&1.seq > seq)) |> Enum.reverse()
    subscribers = Map.put_new_lazy(state.subscribers, pid, fn -> Process.monitor(pid) end)
    answer = {Record.to_map(state.record), missed, Map.to_list(state.previews)}
    {:reply, answer, %__MODULE__{state | subscribers: subscribers}}
  end

  def handle_call(:unsubscribe, {pid, _tag}, state), do: {:reply, :ok, forget(state, pid)}

  def handle_call(:cancel, from, state) do
    error = Error.new("cancelled", "The pipeline was cancelled.")
    state = emit(state, "cancelled", Error.to_map(error))
    Enum.each(state.followers, fn {_stage, follower} -> cancel_job(follower) end)
    GenServer.reply(from, :ok)
    finish(state)
  end

  @impl true
  def handle_info(:advance, state), do: advance(%__MODULE__{state | timer: nil})

  def handle_info({:DOWN, _ref, :process, pid, _reason}, state)
      when is_map_key(state.subscribers, pid) do
    {:noreply, forget(state, pid)}
  end

  def handle_info(message, state) do
    found =
      Enum.find_value(state.followers, fn {stage, follower} ->
        with :other <- Follower.handle(follower, message),
             do: nil,
             else: (heard -> {stage, heard})
      end)

    case found do
      {stage, {:events, events, follower}} ->
        state |> put_follower(stage, follower) |> job_events(stage, events) |> advance()

      {stage, {:preview, {nil, preview}, _follower}} ->
        {:noreply, preview(state, stage, preview)}

      nil ->
        {:noreply, state}
    end
  end

  # Starts what may start, fails what never will, and ends when nothing is left to wait for.
  defp advance(state) do
    state = Enum.reduce(Graph.ready(graph(state), states(state)), state, &start/2)

    case Graph.blocked(graph(state), states(state)) do
      [] -> settle(state)
      blocked -> blocked |> Enum.reduce(state, &block/2) |> advance()
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

  defp finish(state) do
    # This one counts as live: whoever waits for its end shall find it.
    live = MapSet.new(Koma.Pipeline.Supervisor.live())
    :ok = Files.prune(max(Koma.Options.get().retention_jobs - 1, 0), live)
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

  defp start(%Stage{name: name} = stage, state) do
    with {:ok, request} <- Graph.job_request(graph(state), stage, state.record.outputs),
         {:ok, job} <- submit(request, state) do
      follow(state, name, job["id"])
    else
      {:error, %Error{code: code} = error} when code in @again -> try_again(state, name, error)
      {:error, error} -> refuse(state, name, error)
    end
  end

  # The pipeline is what holds the job, whoever watches the pipeline.
  defp submit(request, state) do
    Koma.submit(Map.put(request, "on_disconnect", "keep"), caller(state))
  rescue
    ArgumentError -> {:error, restarting()}
  catch
    :exit, _reason -> {:error, restarting()}
  end

  defp restarting, do: Error.new("unavailable", "This part of the server is restarting.")

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
    seq = state.record.stages[name].job_seq

    case Follower.start({:job, job}, seq, caller(state)) do
      {:ok, follower, _job, events, previews} ->
        state = state |> put_follower(name, follower) |> job_events(name, events)

        Enum.reduce(previews, state, fn {nil, preview}, state -> preview(state, name, preview) end)

      {:error, error} ->
        refuse(state, name, error)
    end
  end

  defp put_follower(state, name, follower) do
    %__MODULE__{state | followers: Map.put(state.followers, name, follower)}
  end

  defp job_events(state, name, events) do
    {_kind, job} = state.followers[name].subject
    Enum.reduce(events, state, &job_event(&1, &2, name, job))
  end

  defp job_event(%Event{type: type} = event, state, name, job) do
    data = %{"stage" => name, "event" => type, "job" => job}
    state = emit(state, "stage", Map.put(data, "payload", Event.payload(event, job)))

    if Follower.terminal?(type) do
      followers = Map.delete(state.followers, name)
      %__MODULE__{state | followers: followers, previews: Map.delete(state.previews, name)}
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
    :ok = Files.append(state.file, event)
    for {pid, _ref} <- state.subscribers, do: send(pid, {:koma_pipeline_event, id(state), event})
    %__MODULE__{state | events: [event | state.events]}
  end

  defp preview(state, name, preview) do
    for {pid, _ref} <- state.subscribers, keeps_up?(pid) do
      send(pid, {:koma_pipeline_preview, id(state), name, preview})
    end

    %__MODULE__{state | previews: Map.put(state.previews, name, preview)}
  end

  defp keeps_up?(pid) do
    case Process.info(pid, :message_queue_len) do
      {:message_queue_len, length} -> length < @long_mailbox
      nil -> false
    end
  end

  defp cancel_job(%Follower{subject: {:job, job}, caller: caller}) do
    Koma.cancel(job, caller)
  rescue
    ArgumentError -> :unreachable
  catch
    :exit, _reason -> :unreachable
  end

  defp forget(state, pid) do
    {ref, subscribers} = Map.pop(state.subscribers, pid)
    if ref, do: Process.demonitor(ref, [:flush])
    %__MODULE__{state | subscribers: subscribers}
  end

  defp id(state), do: state.record.id
  defp graph(state), do: state.record.graph
  defp states(state), do: Record.states(state.record)
  defp caller(state), do: %Caller{key: state.record.key}
end
