defmodule Koma.ModelNode.OsProcess do
  @moduledoc """
  One run of a model node's operating system process: its port, its bytes and its death.

  Frames go over file descriptors 3 and 4 (`:nouse_stdio`). A port's child leads a process group
  of its own, so the group's number is its process id. Sending never blocks: what a full pipe
  does not take waits in `outbox` until the next `flush/1`.
  """

  alias Koma.ModelNode.{Environment, Output, Spec}
  alias Koma.{Options, Provenance, Shown}
  alias Koma.Wire.{Frames, Messages}

  @enforce_keys [:port, :os_pid, :output]
  defstruct [:port, :os_pid, :output, frames: Frames.new(), outbox: :queue.new()]

  @type t :: %__MODULE__{
          port: port,
          os_pid: pos_integer,
          output: pid,
          frames: Frames.t(),
          outbox: :queue.queue(iodata)
        }

  # $1 is the file for stdout and stderr; the rest is the command. exec keeps the process id.
  @shell ~S(out=$1; shift; exec "$@" </dev/null >"$out" 2>&1)

  @doc """
  Starts the process of this model node. The error is a sentence: the machine has no room for one
  more process, or this BEAM none for its pipes.
  """
  @spec start(Spec.t(), Options.t()) :: {:ok, t} | {:error, String.t()}
  def start(%Spec{} = spec, %Options{} = options) do
    case Output.start_link(spec.name) do
      {:ok, output} -> start(spec, options, output)
      {:error, reason} -> {:error, cannot_start(reason)}
    end
  end

  defp start(spec, options, output) do
    env = [{"PYTHONPATH", options.python_path}, {"PYTHONUNBUFFERED", "1"} | threads(spec)]
    env = env ++ Provenance.environment(options)

    settings = [
      :binary,
      :stream,
      :exit_status,
      :nouse_stdio,
      args: ["-c", @shell, "sh", Output.path(output) | command(options)],
      env: Environment.for_port(System.get_env(), env)
    ]

    port = Port.open({:spawn_executable, "/bin/sh"}, settings)
    os_pid = os_pid(port)
    if os_pid, do: Output.guard(output, os_pid)
    {:ok, %__MODULE__{port: port, os_pid: os_pid, output: output}}
  rescue
    error in ErlangError ->
      stop_guard(output)
      {:error, cannot_start(error.original)}
  end

  # What the system says (emfile, eagain, enomem) stands first in what is raised.
  defp cannot_start({reason, _stacktrace}), do: cannot_start(reason)
  defp cannot_start(%ErlangError{original: reason}), do: cannot_start(reason)

  defp cannot_start(reason) when is_atom(reason),
    do: "it cannot be started: #{:file.format_error(reason)} (#{reason})"

  defp cannot_start(reason), do: "it cannot be started: #{Shown.reason(reason)}"

  # Unless told, torch takes as many as there are cores.
  defp threads(%Spec{threads: nil}), do: []
  defp threads(%Spec{threads: threads}), do: [{"OMP_NUM_THREADS", "#{threads}"}]

  defp command(%Options{node_command: nil, python: python}), do: [python, "-m", "koma.port"]
  defp command(%Options{node_command: command}), do: command

  # nil when it is dead already; its exit status is then on the way.
  defp os_pid(port) do
    with {:os_pid, os_pid} <- Port.info(port, :os_pid), do: os_pid
  end

  @doc "Sends a message, or keeps it until there is room. `:too_large` when no frame can hold it."
  @spec send(t, Messages.t()) :: {:ok, t} | :too_large
  def send(%__MODULE__{} = process, message) do
    case message |> Messages.encode() |> Frames.pack() do
      {:ok, frame} -> {:ok, flush(%{process | outbox: :queue.in(frame, process.outbox)})}
      {:error, _size} -> :too_large
    end
  end

  @doc "Sends what waits, as far as there is room."
  @spec flush(t) :: t
  def flush(%__MODULE__{} = process) do
    case :queue.peek(process.outbox) do
      {:value, frame} ->
        if command(process.port, frame),
          do: flush(%{process | outbox: :queue.drop(process.outbox)}),
          else: process

      :empty ->
        process
    end
  end

  @doc "How many messages wait for room."
  @spec waiting(t) :: non_neg_integer
  def waiting(%__MODULE__{outbox: outbox}), do: :queue.len(outbox)

  @doc "Takes bytes that came; returns whole frames, still encoded."
  @spec receive_bytes(t, binary) :: {:ok, [binary], t} | {:error, String.t()}
  def receive_bytes(%__MODULE__{} = process, bytes) do
    with {:ok, frames, state} <- Frames.push(process.frames, bytes) do
      {:ok, frames, %{process | frames: state}}
    end
  end

  @doc "Kills the process group at once; the port then tells the exit status."
  @spec kill(t) :: :ok
  def kill(%__MODULE__{os_pid: nil}), do: :ok

  def kill(%__MODULE__{os_pid: os_pid} = process) do
    Port.open({:spawn_executable, "/bin/sh"}, args: ["-c", "kill -KILL -#{os_pid} 2>/dev/null"])
    :ok
  rescue
    # There is no room for one more process or pipe. The guard is there already, and kills the group
    # when its input ends.
    ErlangError ->
      Process.exit(process.output, :kill)
      :ok
  end

  @doc "Ends what is left of a process: its port, its reader, and (by the guard) its group."
  @spec clean(t) :: :ok
  def clean(%__MODULE__{} = process) do
    close(process.port)
    stop_guard(process.output)
  end

  defp stop_guard(output) do
    Process.unlink(output)
    Process.exit(output, :kill)
    :ok
  end

  # A port that closed by itself has its exit status or signal on the way to its owner.
  defp command(port, frame) do
    Port.command(port, frame, [:nosuspend])
  rescue
    ArgumentError -> true
  end

  defp close(port) do
    Port.close(port)
  rescue
    ArgumentError -> true
  end
end
