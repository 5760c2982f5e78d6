defmodule Koma.Store.Lock do
  @moduledoc """
  Keeps every other server out of the data folder: a lock on the file `lock` in it, held from before
  anything else there is touched until this BEAM is gone, however it goes.

  Erlang cannot lock files, so a small program does (`flock` of util-linux): it holds the lock while
  its standard input is open. The kernel closes that with the BEAM, also at a SIGKILL, so a lock
  never outlives its server, and a file that was left behind locks nobody out. The file holds the
  process id of the BEAM, for the message to whoever comes second.
  """
  use GenServer
  require Logger

  alias Koma.Options
  alias Koma.Store.Folder

  @taken 75
  # A server that was killed a moment ago is given so long to let go.
  @patience_s 3
  @answer_ms 30_000
  # It says that it holds the lock, and then waits for the end of its input.
  @holder ["sh", "-c", "echo held; exec cat"]

  @doc "Locks the data folder, which is made if need be; the error is a sentence for the operator."
  @spec start_link(Options.t()) :: {:ok, pid} | {:error, String.t()}
  def start_link(%Options{data_dir: dir}) do
    GenServer.start_link(__MODULE__, dir)
  end

  @doc "Runs a function while the folder, which must be there, is locked."
  @spec run(Path.t(), (() -> result)) :: {:ok, result} | {:error, String.t()} when result: term
  def run(dir, fun) do
    with {:ok, port} <- lock(dir) do
      try do
        {:ok, fun.()}
      after
        Port.close(port)
      end
    end
  end

  @impl GenServer
  def init(dir) do
    with :ok <- make(dir), {:ok, port} <- lock(dir) do
      {:ok, %{dir: dir, port: port}}
    else
      {:error, sentence} -> {:stop, sentence}
    end
  end

  # Somebody has ended the program. Where another server was faster, this one must not go on.
  @impl GenServer
  def handle_info({port, {:exit_status, status}}, %{port: port} = state) do
    Logger.warning("the lock of #{state.dir} was lost (status #{status}); it is taken again")

    case lock(state.dir) do
      {:ok, port} -> {:noreply, %{state | port: port}}
      {:error, sentence} -> {:stop, sentence, state}
    end
  end

  def handle_info(_of_an_earlier_port, state), do: {:noreply, state}

  defp make(dir) do
    case Folder.make(dir) do
      :ok -> :ok
      {:error, reason} -> {:error, unusable(dir, :file.format_error(reason))}
    end
  end

  defp lock(dir) do
    with {:ok, flock} <- program(dir), :ok <- touch(dir) do
      case hold(flock, ["--nonblock"], dir) do
        :taken -> if other?(holder(dir)), do: {:error, taken(dir)}, else: wait(flock, dir)
        answer -> answer
      end
    end
  end

  defp wait(flock, dir) do
    with :taken <- hold(flock, ["--wait", "#{@patience_s}"], dir), do: {:error, taken(dir)}
  end

  defp program(dir) do
    case System.find_executable("flock") do
      nil -> {:error, unusable(dir, "the program flock (util-linux) is not installed")}
      flock -> {:ok, flock}
    end
  end

  # Never by rename: the lock is on the file, not on its name.
  defp touch(dir) do
    with {:error, reason} <- Folder.touch(path(dir)),
         do: {:error, unusable(dir, :file.format_error(reason))}
  end

  defp hold(flock, patience, dir) do
    arguments = ["--no-fork", "--conflict-exit-code", "#{@taken}" | patience]
    arguments = arguments ++ [path(dir) | @holder]
    options = [:binary, :exit_status, :stderr_to_stdout, args: arguments]
    {:spawn_executable, flock} |> Port.open(options) |> answer(dir, "")
  end

  defp answer(port, dir, said) do
    receive do
      {^port, {:data, "held\n"}} ->
        # On a full disk nobody learns it.
        _written = File.write(path(dir), "#{System.pid()}\n")
        {:ok, port}

      {^port, {:data, more}} ->
        answer(port, dir, said <> more)

      {^port, {:exit_status, @taken}} ->
        :taken

      {^port, {:exit_status, status}} ->
        {:error, unusable(dir, "#{String.trim(said)} (status #{status} of flock)")}
    after
      @answer_ms -> {:error, unusable(dir, "flock does not answer")}
    end
  end

  defp holder(dir) do
    case File.read(path(dir)) do
      {:ok, pid} -> String.trim(pid)
      {:error, _reason} -> ""
    end
  end

  # Whether another BEAM that lives has it. One that is being torn down counts as gone, and in this
  # one a lock may have been given up a moment ago; where there is no /proc nobody can tell.
  defp other?(pid) do
    with true <- pid not in ["", System.pid()],
         {:ok, stat} <- File.read("/proc/#{pid}/stat"),
         do: not (stat =~ ~r/\) [ZX] /),
         else: (_gone -> false)
  end

  defp taken(dir) do
    "The data folder #{dir} is in use by another Koma server#{named(holder(dir))}. " <>
      "Stop that one first, or name another folder in KOMA_DATA."
  end

  defp named(""), do: ""
  defp named(pid), do: " (process #{pid})"

  defp unusable(dir, reason), do: "The data folder #{dir} cannot be used: #{reason}."

  defp path(dir), do: Path.join(dir, "lock")
end
