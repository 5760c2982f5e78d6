defmodule Koma.Provenance.Verifier do
  @moduledoc """
  Asks a Python process of its own which marks a file bears, one file after another.

  The process imports no torch and takes nothing of the model nodes' time. It is started with the first
  question and ended when it takes too long with a file; the next question starts it anew. So many may wait;
  others are refused with `overloaded`.
  """
  use GenServer
  require Logger

  alias Koma.{Error, JSON, Options, Provenance}
  alias Koma.ModelNode.Environment

  @max_waiting 16
  @file_ms 120_000
  @idle_ms 600_000
  # Longer than all that may wait before a question.
  @call_ms (@max_waiting + 2) * @file_ms

  defstruct [:options, :port, :asked, :timer, waiting: :queue.new()]

  @doc "Starts the owner of the process; the process itself starts with the first question."
  @spec start_link(Options.t()) :: GenServer.on_start()
  def start_link(options), do: GenServer.start_link(__MODULE__, options, name: __MODULE__)

  @doc "The operating system's process id of the detector; nil while it is not running."
  @spec os_pid() :: pos_integer | nil
  def os_pid, do: GenServer.call(__MODULE__, :os_pid)

  @doc """
  What the file at `path`, of this media type by its bytes, bears: `c2pa` and `watermark`, as
  `docs/provenance.md` lists them.
  """
  @spec examine(Path.t(), String.t()) :: {:ok, map} | {:error, Error.t()}
  def examine(path, media_type) do
    GenServer.call(__MODULE__, {:examine, path, media_type}, @call_ms)
  end

  @impl GenServer
  def init(options) do
    Process.flag(:trap_exit, true)
    {:ok, %__MODULE__{options: options}}
  end

  @impl GenServer
  def handle_call(:os_pid, _from, %{port: nil} = state), do: {:reply, nil, state}

  def handle_call(:os_pid, _from, state) do
    os_pid = with {:os_pid, os_pid} <- Port.info(state.port, :os_pid), do: os_pid
    {:reply, os_pid, state}
  end

  def handle_call({:examine, path, media_type}, from, state) do
    if :queue.len(state.waiting) >= @max_waiting do
      message = "#{@max_waiting} files wait to be examined; try again"
      {:reply, {:error, Error.new("overloaded", message, retry_after_ms: 5_000)}, state}
    else
      question = {from, JSON.encode!(%{"path" => path, "media_type" => media_type})}
      {:noreply, next(%{state | waiting: :queue.in(question, state.waiting)})}
    end
  end

  @impl GenServer
  def handle_info({port, {:data, text}}, %{port: port, asked: asked} = state) when asked != nil do
    GenServer.reply(asked, answer(JSON.decode(text)))
    {:noreply, next(%{state | asked: nil})}
  end

  def handle_info({port, {:exit_status, status}}, %{port: port} = state) do
    {:noreply, ended(state, "status #{status}")}
  end

  # A process that was dead when it was written to leaves no status.
  def handle_info({:EXIT, port, reason}, %{port: port} = state) when is_port(port) do
    {:noreply, ended(state, Koma.Shown.reason(reason))}
  end

  def handle_info({:timeout, timer, :file}, %{timer: timer} = state) do
    Logger.warning("The detector of marks took longer than #{@file_ms} ms and is started anew")
    message = "The file took longer to examine than #{@file_ms} ms"
    {:noreply, next(lost(kill(state), "timeout", message))}
  end

  def handle_info({:timeout, timer, :idle}, %{timer: timer} = state), do: {:noreply, kill(state)}
  def handle_info(_late, state), do: {:noreply, state}

  @impl GenServer
  def terminate(_reason, state), do: kill(state)

  defp ended(state, how) do
    Logger.warning("The detector of marks ended (#{how})")
    next(lost(state, "internal", "The detector ended while it examined this file"))
  end

  # The next question, once the process is free; a while after the last one it ends.
  defp next(%{asked: nil} = state) do
    case :queue.out(state.waiting) do
      {{:value, {from, text}}, waiting} ->
        state
        |> ask(text)
        |> Map.merge(%{waiting: waiting, asked: from})
        |> timer(@file_ms, :file)

      {:empty, _waiting} when state.port == nil ->
        state

      {:empty, _waiting} ->
        timer(state, @idle_ms, :idle)
    end
  end

  defp next(state), do: state

  # A process that has just died is not known to be dead yet.
  defp ask(state, text) do
    state = opened(state)

    if command(state.port, text),
      do: state,
      else: ask(%{state | port: nil}, text)
  end

  defp command(port, text) do
    Port.command(port, text)
  rescue
    ArgumentError -> false
  end

  defp answer({:ok, %{"error" => %{"code" => code, "message" => message}}}) do
    {:error, Error.new(code, message)}
  end

  defp answer({:ok, report}), do: {:ok, report}
  defp answer({:error, error}), do: {:error, error}

  defp lost(state, code, message) do
    if state.asked, do: GenServer.reply(state.asked, {:error, Error.new(code, message)})
    %{state | port: nil, asked: nil}
  end

  defp opened(%{port: nil, options: options} = state) do
    own = [{"PYTHONPATH", options.python_path}, {"OMP_NUM_THREADS", "1"}]
    env = Environment.for_port(System.get_env(), own ++ Provenance.environment(options))
    python = System.find_executable(options.python) || options.python

    settings = [
      :binary,
      :exit_status,
      packet: 4,
      args: ["-m", "koma.provenance.verify"],
      env: env
    ]

    %{state | port: Port.open({:spawn_executable, python}, settings)}
  end

  defp opened(state), do: state

  # Its input ends, and so does it; one that is busy with a file is killed.
  defp kill(%{port: nil} = state), do: state

  defp kill(%{port: port} = state) do
    with {:os_pid, os_pid} <- Port.info(port, :os_pid) do
      Port.close(port)
      {_output, _status} = System.cmd("kill", ["-KILL", "#{os_pid}"], stderr_to_stdout: true)
    end

    %{state | port: nil}
  end

  defp timer(state, ms, kind) do
    _left = state.timer && :erlang.cancel_timer(state.timer)
    %{state | timer: :erlang.start_timer(ms, self(), kind)}
  end
end
