defmodule Koma.OtherServer do
  @moduledoc """
  A whole server in an operating system process of its own, below a limit of open files: a test looks
  at it from outside, by its port, its log and what the kernel tells of it.
  """

  import Koma.CoreCase, only: [eventually: 1]

  @enforce_keys [:beam, :os_pid, :port, :log]
  defstruct [:beam, :os_pid, :port, :log]

  @type t :: %__MODULE__{
          beam: port,
          os_pid: pos_integer,
          port: :inet.port_number(),
          log: Path.t()
        }

  # The shell becomes the BEAM, so that its process id is that of the server.
  @shell ~S(ulimit -n "$1"; log=$2; shift 2; exec "$@" >"$log" 2>&1)

  @doc "Starts one below `dir` with these options, and waits until its model nodes are ready."
  @spec start(Path.t(), pos_integer, keyword) :: t
  def start(dir, files, overrides) do
    [port_file, log] = for name <- ["port", "log"], do: Path.join(dir, name)
    overrides = Keyword.merge([edge: true, port: 0, port_file: port_file], overrides)

    script = """
    {:ok, _applications} = Application.ensure_all_started(:cowboy)
    {:ok, _server} =
      #{inspect(Path.join(dir, "data"))}
      |> Koma.CoreCase.options(#{inspect(overrides, limit: :infinity, printable_limit: :infinity)})
      |> Koma.Supervisor.start_link()
    Koma.CoreCase.await_ready()
    File.write!(#{inspect(Path.join(dir, "ready"))}, "")
    Process.sleep(:infinity)
    """

    paths = Enum.flat_map(:code.get_path(), &["-pa", to_string(&1)])
    erl = ["erl", "-noinput", "-args_file", "rel/vm.args.eex"] ++ paths
    command = erl ++ ["-s", "elixir", "start_cli", "-extra", "--no-halt", "-e", script]
    arguments = ["-c", @shell, "bash", "#{files}", log | command]
    bash = System.find_executable("bash")
    beam = Port.open({:spawn_executable, bash}, [:binary, :exit_status, args: arguments])
    {:os_pid, os_pid} = Port.info(beam, :os_pid)
    ExUnit.Callbacks.on_exit(fn -> signal(os_pid, "KILL") end)
    eventually(fn -> File.exists?(Path.join(dir, "ready")) end)
    port = port_file |> File.read!() |> String.to_integer()
    %__MODULE__{beam: beam, os_pid: os_pid, port: port, log: log}
  end

  @doc "Sends a signal to the BEAM."
  @spec signal(pos_integer, String.t()) :: :ok
  def signal(os_pid, name) do
    {_output, _status} = System.cmd("kill", ["-" <> name, "#{os_pid}"], stderr_to_stdout: true)
    :ok
  end

  @doc "Resident memory of the BEAM in bytes: now (`RSS`), or the most since `forget_peak/1` (`HWM`)."
  @spec memory(t, String.t()) :: pos_integer
  def memory(%__MODULE__{os_pid: os_pid}, which) do
    status = File.read!("/proc/#{os_pid}/status")
    [_line, kib] = Regex.run(~r/^Vm#{which}:\s+(\d+) kB$/m, status)
    String.to_integer(kib) * 1024
  end

  @doc "Begins to look for the peak of memory anew."
  @spec forget_peak(t) :: :ok
  def forget_peak(%__MODULE__{os_pid: os_pid}) do
    File.write!("/proc/#{os_pid}/clear_refs", "5")
  end

  @doc "The process ids of its model nodes."
  @spec model_nodes(t) :: [pos_integer]
  def model_nodes(%__MODULE__{os_pid: os_pid}) do
    for pid <- descendants(os_pid),
        {:ok, line} <- [File.read("/proc/#{pid}/cmdline")],
        line =~ "-m\0koma.port",
        do: pid
  end

  defp descendants(os_pid) do
    children =
      for file <- Path.wildcard("/proc/#{os_pid}/task/*/children"),
          {:ok, pids} <- [File.read(file)],
          child <- String.split(pids),
          do: String.to_integer(child)

    children ++ Enum.flat_map(children, &descendants/1)
  end
end
