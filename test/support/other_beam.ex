defmodule Koma.OtherBeam do
  @moduledoc """
  A second gateway (its core) in an operating system process of its own, which a test may kill or
  stop. The test that starts it gets its lines as messages of the port.
  """

  import Koma.CoreCase, only: [alive?: 1, eventually: 1]

  alias Koma.{Caller, CoreCase, Follower}

  @doc """
  Starts one below `dir` with these options; `script` runs in it when its model nodes are ready.
  """
  @spec start(Path.t(), keyword, String.t()) :: port
  def start(dir, overrides, script) do
    script = """
    options = Koma.CoreCase.options(#{inspect(dir)}, #{inspect(overrides)})
    Koma.Options.put(options)
    {:ok, _} = Koma.Store.Lock.start_link(options)
    {:ok, _} = Supervisor.start_link([Koma.Telemetry, Koma.Job.Followers, {Koma.Access, options}], strategy: :one_for_one)
    {:ok, _} = Koma.Core.start_link(options)
    Koma.CoreCase.await_ready()
    #{script}
    Process.sleep(:infinity)
    """

    paths = Enum.flat_map(:code.get_path(), &["-pa", to_string(&1)])
    start = ["-noinput", "-s", "elixir", "start_cli", "-extra", "--no-halt", "-e", script]
    options = [:binary, :exit_status, {:line, 65_536}, args: paths ++ start]
    beam = Port.open({:spawn_executable, System.find_executable("erl")}, options)
    {:os_pid, os_pid} = Port.info(beam, :os_pid)

    ExUnit.Callbacks.on_exit(fn ->
      System.cmd("kill", ["-KILL", "#{os_pid}"], stderr_to_stdout: true)
    end)

    beam
  end

  @doc "A script that submits `count` jobs, waits for a step of the first, and prints all ids."
  @spec submits(pos_integer, map) :: String.t()
  def submits(count, params) do
    """
    ids = for _ <- 1..#{count}, do: Koma.CoreCase.submit!(#{inspect(params)})["id"]
    Koma.CoreCase.await_step(hd(ids))
    IO.puts("IDS " <> Enum.join(ids, " "))
    """
  end

  @doc "The ids that it prints."
  @spec ids(port) :: [String.t()]
  def ids(beam) do
    receive do
      {^beam, {:data, {:eol, "IDS " <> ids}}} -> String.split(ids)
      {^beam, {:exit_status, status}} -> raise "the other BEAM ended with #{status}"
    after
      60_000 -> raise "the other BEAM says nothing"
    end
  end

  @doc "Runs there: follows a job to its end in a process of its own and prints what it is told."
  @spec follow(String.t()) :: pid
  def follow(id) do
    spawn_link(fn ->
      {:ok, follower, _job, events, _previews} = Follower.start({:job, id}, 0, %Caller{})
      print(id, events)
      follow(id, follower)
    end)
  end

  defp follow(id, %Follower{ended: true}), do: IO.puts("END #{id}")

  defp follow(id, follower) do
    receive do
      message ->
        case Follower.handle(follower, message) do
          {:events, events, follower} ->
            print(id, events)
            follow(id, follower)

          _other ->
            follow(id, follower)
        end
    end
  end

  defp print(id, events) do
    for event <- events, do: IO.puts("EVENT #{id} #{event.seq} #{event.type} #{event.at}")
  end

  @doc "Sends a signal to the BEAM, not to its model nodes."
  @spec signal(port, String.t()) :: :ok
  def signal(beam, name) do
    {:os_pid, os_pid} = Port.info(beam, :os_pid)
    {_output, 0} = System.cmd("kill", ["-" <> name, "#{os_pid}"])
    :ok
  end

  @doc "Kills it and waits until its model nodes are gone, too."
  @spec kill(port) :: true
  def kill(beam) do
    {:os_pid, os_pid} = Port.info(beam, :os_pid)
    python = model_nodes(os_pid)
    true = python != []
    signal(beam, "KILL")

    receive do
      {^beam, {:exit_status, _status}} -> :ok
    after
      5_000 -> raise "the other BEAM does not die"
    end

    eventually(fn -> Enum.all?(python, &(not alive?(&1))) end)
  end

  defp model_nodes(os_pid) do
    for pid <- descendants(os_pid), read("/proc/#{pid}/cmdline") =~ "koma.port", do: pid
  end

  defp descendants(os_pid) do
    children =
      for file <- Path.wildcard("/proc/#{os_pid}/task/*/children"),
          child <- file |> read() |> String.split(),
          do: String.to_integer(child)

    children ++ Enum.flat_map(children, &descendants/1)
  end

  defp read(path) do
    case File.read(path) do
      {:ok, bytes} -> bytes
      {:error, _gone} -> ""
    end
  end

  @doc "Runs there: as `Koma.CoreCase.submit!/2`, for each of `count` seeds; returns the ids."
  @spec submit(pos_integer, map) :: [String.t()]
  def submit(count, params) do
    for seed <- 1..count, do: CoreCase.submit!(Map.put(params, "seed", seed))["id"]
  end
end
