defmodule Koma.ModelNode.Server do
  @moduledoc """
  Owns one model node: starts its process, shakes hands, keeps the pending jobs by id, pings, and
  starts it again with growing pauses when it dies, hangs or breaks the protocol.

      waiting ──▶ hello ──▶ loading ──▶ ready ◀──▶ draining ──▶ drained, loading, unloaded
         ▲          └──────────┴──────────┴──────────┴──▶ killing ──▶ (exit) ──▶ waiting

  Operators' orders (`Koma.ModelNode.Order`) wait in the phase `draining` until the jobs that run are
  done.

  The death of the Python process is an ordinary message here: jobs that were pending are told
  once, with `node_crashed` or `node_hung`, after the process is really gone, so two attempts of
  one job never run at the same time.
  """
  use GenServer
  require Logger

  alias Koma.{Error, Options, Shown}

  alias Koma.ModelNode.{
    Backoff,
    Catalogue,
    Counts,
    Handshake,
    Health,
    Order,
    OsProcess,
    Pending,
    Report
  }

  alias Koma.Wire.Messages
  alias Koma.Wire.Messages.{Cancel, Counted, Failed, Log, Ping, Pong, Ready, Stats, Unload}

  # A process that cannot be killed (a driver in the kernel) is given up after this long.
  @kill_timeout_ms 5_000
  @flush_ms 10
  # A reader that let this many messages pile up is as good as hung.
  @max_outbox 1_000
  # A model node that was up this long has recovered from its earlier failures.
  @recovered_ms 10_000

  @enforce_keys [:spec, :options, :listener]
  defstruct [
    :spec,
    :options,
    :listener,
    :process,
    :timer,
    :health,
    :started_at,
    :ready,
    :ready_at,
    :stats,
    :doom,
    :last_error,
    :order,
    :next_spec,
    :load_by,
    :deadline,
    phase: :waiting,
    failures: 0,
    served: false,
    flushing: false,
    hopeless: false,
    pending: Pending.new(),
    counts: Counts.new()
  ]

  @doc "Starts a model node. Options: `:spec`, `:options`, `:listener` (the scheduler), `:name`."
  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(arguments) do
    {name, arguments} = Keyword.pop!(arguments, :name)
    GenServer.start_link(__MODULE__, arguments, name: name)
  end

  @impl GenServer
  def init(arguments) do
    # Ports are linked: their end must arrive as a message, and terminate/2 must run.
    Process.flag(:trap_exit, true)
    state = struct!(__MODULE__, arguments)
    Logger.metadata(model_node: state.spec.name)
    {:ok, start_process(state)}
  end

  @impl GenServer
  def handle_call(:os_pid, _from, state) do
    {:reply, state.process && state.process.os_pid, state}
  end

  def handle_call({:order, order, within_ms}, _from, state) do
    case Order.check(order, state.phase, state.order) do
      :ok -> {:reply, :ok, obey(state, order, within_ms)}
      {:error, error} -> {:reply, {:error, error}, state}
    end
  end

  # The reader of the process answers, beside whatever its engine does.
  def handle_call({:count, task, params}, from, %{phase: phase} = state)
      when phase in [:ready, :draining, :drained] do
    case Counts.ask(state.counts, from, task, params) do
      {:ok, count, counts} -> {:noreply, send_message(%{state | counts: counts}, count)}
      :full -> {:reply, Counts.refused("is asked too much"), state}
    end
  end

  def handle_call({:count, _task, _params}, _from, state) do
    {:reply, Counts.refused("is not ready"), state}
  end

  @impl GenServer
  def handle_cast({:submit, submit, job}, state) do
    if Order.running?(state.phase) do
      pending = Pending.put(state.pending, submit, job)
      {:noreply, send_message(%{state | pending: pending}, submit)}
    else
      # Not the job's doing: this code is not held against it.
      error = Error.new("unavailable", "#{state.spec.name} stopped before it got the job")
      send(job, {:model_node, submit.id, submit.attempt, {:lost, error}})
      {:noreply, tell_free(state, submit.id)}
    end
  end

  def handle_cast({:cancel, id}, state) do
    case Pending.abandon(state.pending, id) do
      {:ok, pending} -> {:noreply, send_message(%{state | pending: pending}, %Cancel{id: id})}
      :already -> {:noreply, state}
      :unknown -> {:noreply, tell_free(state, id)}
    end
  end

  def handle_cast(:announce, %{phase: :ready} = state), do: {:noreply, announce(state)}

  def handle_cast(:announce, %{phase: :draining} = state) do
    {:noreply, state |> announce() |> tell({:node_closed, state.spec.name})}
  end

  def handle_cast(:announce, state), do: {:noreply, state}

  @impl GenServer
  def handle_info({port, {:data, bytes}}, %{process: %{port: port}} = state) do
    if state.phase == :killing, do: {:noreply, state}, else: {:noreply, take_bytes(state, bytes)}
  end

  def handle_info({port, {:exit_status, status}}, %{process: %{port: port}} = state) do
    {:noreply, gone(state, "exit status #{status}")}
  end

  def handle_info({:EXIT, port, reason}, %{process: %{port: port}} = state) do
    {:noreply, gone(state, "its pipe closed (#{Shown.reason(reason)})")}
  end

  def handle_info({:EXIT, output, reason}, %{process: %{output: output}} = state) do
    {:noreply, kill(state, "node_crashed", "its guard died (#{Shown.reason(reason)})")}
  end

  def handle_info({:EXIT, _old_port, _reason}, state), do: {:noreply, state}

  def handle_info({:timeout, timer, kind}, %{timer: timer} = state) do
    {:noreply, timeout(kind, %{state | timer: nil})}
  end

  # The jobs that still run are run again elsewhere.
  def handle_info({:timeout, deadline, :deadline}, %{deadline: deadline} = state) do
    if state.phase == :draining and state.order == :restart,
      do: {:noreply, fulfil(:restart, state)},
      else: {:noreply, state}
  end

  def handle_info({:timeout, _cancelled, _kind}, state), do: {:noreply, state}

  def handle_info({:flush, port}, %{process: %{port: port}} = state) do
    process = OsProcess.flush(state.process)
    {:noreply, flush_later(%{state | process: process, flushing: false})}
  end

  def handle_info({:DOWN, ref, :process, _job, _reason}, state) do
    case Pending.find(state.pending, ref) do
      {:ok, id} -> handle_cast({:cancel, id}, state)
      :error -> {:noreply, state}
    end
  end

  # What a port that is closed by now still had to say.
  def handle_info(_late, state), do: {:noreply, state}

  @impl GenServer
  def terminate(_reason, %{process: nil}), do: :ok

  def terminate(_reason, state) do
    OsProcess.kill(state.process)
    OsProcess.clean(state.process)
  end

  # --- phases

  defp start_process(state) do
    state = %{state | started_at: now(), ready_at: nil, stats: nil, next_spec: state.spec}
    state = %{state | doom: nil, served: false, flushing: false, hopeless: false}

    case OsProcess.start(state.spec, state.options) do
      {:ok, process} -> greet(%{state | process: process})
      {:error, reason} -> down(state, Error.new("node_crashed", reason))
    end
  end

  defp greet(state) do
    state
    |> phase(:hello)
    |> timer(state.options.hello_timeout_ms, :handshake)
    |> send_message(Handshake.hello(state.spec))
  end

  defp timeout(:handshake, state) do
    kill(state, "node_hung", "no answer in phase #{state.phase}")
  end

  # Loading may take long, but who loads still answers; a large import may silence it for a while.
  defp timeout(:ping, %{phase: :loading} = state) do
    case Health.check(state.health, state.options.hello_timeout_ms, now()) do
      :ok -> if now() < state.load_by, do: ping(state), else: timeout(:handshake, state)
      {:hung, reason} -> kill(state, "node_hung", reason)
    end
  end

  defp timeout(:ping, state) do
    case Health.check(state.health, state.options.ping_timeout_ms, now()) do
      :ok -> ping(state)
      {:hung, reason} -> kill(state, "node_hung", reason)
    end
  end

  defp timeout(:kill, state), do: gone(state, "could not be killed within #{@kill_timeout_ms} ms")

  defp timeout(:restart, state) do
    Report.restarted(state.spec, state.doom)
    start_process(state)
  end

  defp ping(state) do
    {seq, health} = Health.ping(state.health)

    %{state | health: health}
    |> timer(ping_pause(state), :ping)
    |> send_message(%Ping{seq: seq})
  end

  defp ping_pause(%{phase: :loading} = state) do
    min(state.options.ping_interval_ms, max(state.load_by - now(), 0))
  end

  defp ping_pause(state), do: state.options.ping_interval_ms

  # --- what the model node says

  defp take_bytes(state, bytes) do
    case OsProcess.receive_bytes(state.process, bytes) do
      {:ok, frames, process} -> Enum.reduce(frames, %{state | process: process}, &take_frame/2)
      {:error, reason} -> kill(state, "protocol_error", reason)
    end
  end

  defp take_frame(_frame, %{phase: :killing} = state), do: state

  defp take_frame(frame, state) do
    case Messages.decode_from_node(frame) do
      {:ok, message} -> take(message, state)
      {:error, reason} -> kill(state, "protocol_error", reason)
    end
  end

  defp take(%Ready{} = ready, %{phase: :hello} = state) do
    case Handshake.greeted(ready, state.spec) do
      {:load, _load} ->
        load(state, state.spec)

      {:refuse, code, reason} ->
        kill(state, code, reason)

      {:give_up, code, reason} ->
        kill(%{state | hopeless: true}, code, reason)
    end
  end

  defp take(%Ready{} = ready, %{phase: :loading} = state) do
    case Handshake.loaded(ready, state.next_spec) do
      :ok -> up(%{state | spec: state.next_spec}, ready)
      {:refuse, code, reason} -> kill(state, code, reason)
    end
  end

  defp take(%Ready{family: nil}, %{phase: :unloading} = state) do
    %{state | ready: nil, stats: nil, order: nil, health: Health.new(now())}
    |> phase(:unloaded)
    |> ping()
  end

  defp take(%Failed{scope: "node"} = failed, %{phase: :loading} = state) do
    kill(state, "load_failed", "#{failed.code}: #{failed.message}")
  end

  defp take(%Failed{scope: "node"} = failed, state) do
    kill(state, "node_crashed", "#{failed.code}: #{failed.message}")
  end

  # An answer to a ping may come after the next command went out.
  defp take(%Pong{}, %{phase: :unloading} = state), do: state

  defp take(%Pong{busy_ms: busy_ms}, %{phase: phase} = state) when phase != :hello do
    hang_ms = state.spec.hang_timeout_ms || state.options.hang_timeout_ms

    case Health.pong(state.health, busy_ms, hang_ms, now()) do
      {:ok, health} -> %{state | health: health}
      {:hung, reason} -> kill(state, "node_hung", reason)
    end
  end

  defp take(%Counted{} = counted, state) do
    %{state | counts: Counts.answer(state.counts, counted)}
  end

  defp take(%Log{} = log, state) do
    Report.line(state.spec, log)
    state
  end

  defp take(%Stats{} = stats, state) do
    Report.stats(state.spec, stats)
    publish(%{state | stats: stats})
  end

  defp take(%{id: id} = message, %{phase: phase} = state)
       when is_binary(id) and phase not in [:hello, :loading, :unloading] do
    case Pending.message(state.pending, id, message) do
      {:going_on, pending} -> %{state | pending: pending}
      {:ended, pending} -> ended(%{state | pending: pending, served: true}, id)
      :unknown -> state
    end
  end

  defp take(%module{}, state) do
    type = module |> Module.split() |> List.last()
    kill(state, "protocol_error", "#{type} is out of place in phase #{state.phase}")
  end

  defp ended(state, id), do: state |> tell_free(id) |> settle()

  # --- orders

  defp obey(state, :resume, _within_ms), do: resume(%{state | order: nil})

  defp obey(%{phase: :waiting} = state, :restart, _within_ms) do
    timer(%{state | failures: 0}, 0, :restart)
  end

  # What is not up has no jobs to wait for; a drain holds from when it is.
  defp obey(%{phase: phase} = state, order, _within_ms)
       when phase in [:waiting, :hello, :loading] do
    state = %{state | order: order}
    if order == :restart, do: fulfil(:restart, state), else: publish(state)
  end

  defp obey(state, order, within_ms) do
    deadline = within_ms && :erlang.start_timer(within_ms, self(), :deadline)

    %{state | order: order, deadline: deadline}
    |> phase(:draining)
    |> tell({:node_closed, state.spec.name})
    |> settle()
  end

  defp resume(%{phase: phase} = state) when phase in [:draining, :drained] do
    state |> phase(:ready) |> announce()
  end

  defp resume(state), do: publish(state)

  # The jobs that ran are done.
  defp settle(%{phase: :draining, order: order} = state) do
    if Pending.ids(state.pending) == [], do: fulfil(order, state), else: state
  end

  defp settle(state), do: state

  defp fulfil(:drain, state), do: phase(state, :drained)
  defp fulfil(:restart, state), do: kill(state, "unavailable", "it is restarted by an operator")
  defp fulfil({:load, name}, state), do: load(state, %{state.spec | checkpoint: name})

  defp fulfil(:unload, state) do
    state
    |> phase(:unloading)
    |> timer(state.options.load_timeout_ms, :handshake)
    |> send_message(%Unload{id: "unload-#{state.spec.name}"})
  end

  defp load(state, spec) do
    began = now()
    load_by = began + state.options.load_timeout_ms

    %{state | next_spec: spec, health: Health.new(began), load_by: load_by}
    |> phase(:loading)
    |> send_message(Handshake.load(spec))
    |> ping()
  end

  # --- up and down

  defp up(state, ready) do
    Report.up(state.spec, ready, now() - state.started_at)
    state = %{state | ready: ready, ready_at: now(), health: Health.new(now())}

    if state.order == :drain,
      do: state |> phase(:drained) |> ping(),
      else: %{state | order: nil} |> phase(:ready) |> announce() |> ping()
  end

  defp announce(%{spec: spec} = state) do
    jobs = Pending.ids(state.pending)
    tell(state, {:node_up, spec.name, self(), spec.family, max(state.ready.slots, 1), jobs})
  end

  defp tell_free(state, id), do: tell(state, {:slot_free, state.spec.name, id})

  defp tell(state, message) do
    GenServer.cast(state.listener, message)
    state
  end

  defp kill(%{phase: :killing} = state, _code, _reason), do: state

  defp kill(state, code, reason) do
    OsProcess.kill(state.process)

    %{state | doom: Error.new(code, reason)}
    |> phase(:killing)
    |> timer(@kill_timeout_ms, :kill)
  end

  defp gone(state, how) do
    OsProcess.clean(state.process)
    down(state, state.doom || Error.new("node_crashed", how))
  end

  defp down(state, error) do
    {failures, pause} = pause(state)
    Report.down(state.spec, error, pause, Pending.ids(state.pending))
    state = tell(state, {:node_down, state.spec.name})
    lost = Pending.lose(state.pending, lost(error, state.spec))
    counts = Counts.lose(state.counts)

    state = %{
      state
      | process: nil,
        failures: failures,
        doom: error,
        pending: lost,
        counts: counts
    }

    # An order that was under way has failed with it, and a drain goes on.
    order = if state.order == :drain, do: :drain
    state = %{state | last_error: last_error(state, error), order: order}
    state = phase(state, :waiting)
    # Only an operator's restart helps what is hopeless.
    if pause == :never, do: %{state | timer: nil}, else: timer(state, pause, :restart)
  end

  defp last_error(%{order: :restart, last_error: earlier}, _ordered), do: earlier
  defp last_error(_state, error), do: {error, System.system_time(:millisecond)}

  # Of a death that was ordered the model node need not recover.
  defp pause(%{order: :restart}), do: {0, 0}

  defp pause(%{hopeless: true}), do: {Catalogue.hopeless(), :never}

  defp pause(state) do
    failures = if recovered?(state), do: 1, else: state.failures + 1
    {failures, pause_ms(failures, state.options)}
  end

  defp pause_ms(failures, %Options{restart_min_ms: min, restart_max_ms: max}) do
    Backoff.delay_ms(failures, min, max, :rand.uniform())
  end

  # Jobs know two fates of their model node; the rest is for the log.
  defp lost(%Error{code: code} = error, spec) when code in ["node_hung", "unavailable"],
    do: %{error | message: "#{spec.name}: #{error.message}"}

  defp lost(error, spec), do: Error.new("node_crashed", "#{spec.name}: #{error.message}")

  defp recovered?(%{served: true}), do: true
  defp recovered?(%{ready_at: nil}), do: false
  defp recovered?(%{ready_at: at}), do: now() - at > @recovered_ms

  defp phase(state, phase) do
    publish(%{state | phase: phase})
  end

  defp publish(state) do
    state |> Map.from_struct() |> Catalogue.Row.new() |> Catalogue.put()
    state
  end

  # --- sending

  defp send_message(%{phase: :killing} = state, _message), do: state

  defp send_message(state, message) do
    case OsProcess.send(state.process, message) do
      {:ok, process} -> flush_later(%{state | process: process})
      :too_large -> refuse(state, message)
    end
  end

  # Only a submit can be that large.
  defp refuse(state, %{id: id}) do
    failed = %Failed{
      id: id,
      scope: "job",
      code: "too_large",
      message: "The parameters do not fit into a frame"
    }

    take(failed, state)
  end

  defp flush_later(state) do
    case OsProcess.waiting(state.process) do
      0 -> state
      n when n > @max_outbox -> kill(state, "node_hung", "#{n} messages wait to be read")
      _some when state.flushing -> state
      _some -> %{state | flushing: start_flush(state.process.port)}
    end
  end

  defp start_flush(port) do
    _timer = Process.send_after(self(), {:flush, port}, @flush_ms)
    true
  end

  defp timer(state, ms, kind) do
    # What was on its way is told apart by its reference.
    _left = state.timer && :erlang.cancel_timer(state.timer)
    %{state | timer: :erlang.start_timer(ms, self(), kind)}
  end

  defp now, do: System.monotonic_time(:millisecond)
end
