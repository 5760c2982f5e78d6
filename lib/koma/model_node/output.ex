defmodule Koma.ModelNode.Output do
  @moduledoc """
  Reads what a model node prints, and sees to it that the model node never outlives the BEAM.

  Both are the work of one small shell process, the guard. Its standard output is a pipe to the
  BEAM, which the model node opens as its own stdout and stderr (through `/proc`); so prints
  become log lines and never touch the frames. It waits on its standard input: when the BEAM is
  gone, or this process stops, that input ends and the guard kills the model node's whole process
  group, hung and forked processes included.

  This is a process of its own so that a library that prints without end slows nobody down; of
  more than #{200} lines a second the rest is counted, not logged.
  """
  use GenServer
  require Logger

  @lines_per_second 200
  @line_bytes 4096

  # Its greeting shows that it runs with the pipe as its output: right after the fork its output is
  # still that of the BEAM, and a model node that opened it then would truncate the BEAM's log file.
  # The first line of its input names the process group, the end of the input is the sign.
  @guard ~S(echo; read -r group; read -r _; [ -n "$group" ] && kill -KILL "-$group" 2>/dev/null)

  @doc "Starts the guard and the reader, linked to the caller, for a model node's name."
  @spec start_link(String.t()) :: GenServer.on_start()
  def start_link(node), do: GenServer.start_link(__MODULE__, node)

  @doc "The file that the model node is to open as its stdout and stderr."
  @spec path(pid) :: Path.t()
  def path(output), do: GenServer.call(output, :path)

  @doc "Names the process group to kill at the end."
  @spec guard(pid, os_pid :: pos_integer) :: :ok
  def guard(output, os_pid), do: GenServer.cast(output, {:guard, os_pid})

  @impl GenServer
  def init(node) do
    Logger.metadata(model_node: node)
    options = [:binary, :exit_status, {:line, @line_bytes}, args: ["-c", @guard]]
    port = Port.open({:spawn_executable, "/bin/sh"}, options)

    receive do
      {^port, {:data, {:eol, ""}}} -> {:ok, %{node: node, port: port, second: nil, lines: 0}}
      {^port, {:exit_status, status}} -> {:stop, {:guard_exited, status}}
    end
  rescue
    # No room for one more process or pipe: whoever starts this tries again later.
    error in ErlangError -> {:stop, error.original}
  end

  @impl GenServer
  def handle_call(:path, _from, state) do
    {:os_pid, os_pid} = Port.info(state.port, :os_pid)
    {:reply, "/proc/#{os_pid}/fd/1", state}
  end

  @impl GenServer
  def handle_cast({:guard, os_pid}, state) do
    Port.command(state.port, "#{os_pid}\n")
    {:noreply, state}
  end

  @impl GenServer
  def handle_info({port, {:data, {_end_of_line, line}}}, %{port: port} = state) do
    {:noreply, state |> count() |> log(line)}
  end

  def handle_info({port, {:exit_status, status}}, %{port: port} = state) do
    {:stop, {:guard_exited, status}, state}
  end

  defp count(state) do
    second = System.monotonic_time(:second)

    if second == state.second do
      %{state | lines: state.lines + 1}
    else
      silenced = state.lines - @lines_per_second
      if silenced > 0, do: Logger.warning("#{state.node}: #{silenced} more lines were printed")
      %{state | second: second, lines: 1}
    end
  end

  defp log(%{lines: lines} = state, line) do
    if lines <= @lines_per_second, do: Logger.info("#{state.node}: #{Koma.LogLine.text(line)}")
    state
  end
end
