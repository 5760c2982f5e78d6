defmodule Koma.RedisServer do
  @moduledoc """
  A real redis-server of a test, on a free port and in its own folder, with an append-only file. It
  dies with the BEAM.
  """

  import Koma.CoreCase, only: [eventually: 1]

  defstruct [:port, :dir, :arguments, :os_pid, :process]

  @type t :: %__MODULE__{}

  @doc "Starts one; `arguments` are further options of redis-server, e.g. `~w(--requirepass x)`."
  @spec start(Path.t(), [String.t()]) :: t
  def start(dir, arguments \\ []) do
    File.mkdir_p!(dir)
    run(%__MODULE__{port: Koma.FreePort.take(), dir: dir, arguments: arguments})
  end

  @doc "Starts it again on the same port, with what is in its folder."
  @spec restart(t) :: t
  def restart(server), do: run(server)

  @doc "Kills it; what it had not written is lost."
  @spec kill(t) :: :ok
  def kill(%__MODULE__{os_pid: os_pid, process: process}) do
    signal(os_pid, "KILL")

    receive do
      {^process, {:exit_status, _status}} -> :ok
    after
      5_000 -> raise "redis-server does not die"
    end
  end

  @doc "Deletes what it has on disk."
  @spec wipe(t) :: :ok
  def wipe(server), do: with([_ | _] <- File.rm_rf!(server.dir), do: File.mkdir_p!(server.dir))

  @doc "Stops the process without ending it: it accepts connections and answers nothing."
  @spec hang(t) :: :ok
  def hang(server), do: signal(server.os_pid, "STOP")

  @doc "It goes on."
  @spec go_on(t) :: :ok
  def go_on(server), do: signal(server.os_pid, "CONT")

  @doc "Its URL."
  @spec url(t, String.t()) :: String.t()
  def url(server, credentials \\ ""), do: "redis://#{credentials}127.0.0.1:#{server.port}/0"

  @doc "Asks it something over a connection of its own."
  @spec ask!(t, [term], String.t()) :: term
  def ask!(server, command, password \\ "") do
    {:ok, client} =
      :eredis.start_link('127.0.0.1', server.port, 0, '#{password}', :no_reconnect, 1_000)

    {:ok, answer} = :eredis.q(client, command)
    :ok = :eredis.stop(client)
    answer
  end

  defp run(server) do
    options = ~w(--bind 127.0.0.1 --appendonly yes --appendfsync everysec) ++ ["--save", ""]
    place = ["--port", "#{server.port}", "--dir", server.dir, "--logfile", server.dir <> "/log"]
    command = ["--pdeathsig", "KILL", "redis-server"] ++ options ++ place ++ server.arguments
    setpriv = System.find_executable("setpriv")
    process = Port.open({:spawn_executable, setpriv}, [:binary, :exit_status, args: command])
    {:os_pid, os_pid} = Port.info(process, :os_pid)
    eventually(fn -> listens?(server.port) end)
    %{server | os_pid: os_pid, process: process}
  end

  defp listens?(port) do
    with {:ok, socket} <- :gen_tcp.connect('127.0.0.1', port, [:binary, active: false]) do
      :ok = :gen_tcp.send(socket, "PING\r\n")
      answer = :gen_tcp.recv(socket, 0, 1_000)
      :ok = :gen_tcp.close(socket)
      # With a password it answers that it wants one; while it loads, that it does.
      match?({:ok, "+PONG" <> _}, answer) or match?({:ok, "-NOAUTH" <> _}, answer)
    else
      _refused -> false
    end
  end

  defp signal(os_pid, name) do
    {_output, 0} = System.cmd("kill", ["-" <> name, "#{os_pid}"])
    :ok
  end
end
