defmodule Koma.Store.LockTest do
  use ExUnit.Case, async: true

  import Koma.CoreCase, only: [alive?: 1, eventually: 1]

  alias Koma.Options
  alias Koma.Store.Lock

  setup do
    {:ok, dir: Koma.TestFolder.new("lock")}
  end

  test "a second server on a data folder is refused, by any path to it, and told which process has it",
       %{dir: dir} do
    {:os_pid, holder} = dir |> hold() |> Port.info(:os_pid)
    File.write!(Path.join(dir, "lock"), "#{holder}\n")
    other_name = dir <> "-link"
    File.ln_s!(dir, other_name)
    on_exit(fn -> File.rm(other_name) end)

    for path <- [dir, other_name] do
      assert {:error, sentence} = start(path)
      assert sentence =~ path
      assert sentence =~ "process #{holder})"
    end
  end

  test "a second server in the same BEAM is refused, too", %{dir: dir} do
    lock(dir)
    assert {:error, sentence} = start(dir)
    assert sentence =~ "process #{System.pid()})"
  end

  test "a lock that was left behind by a server that is gone locks nobody out", %{dir: dir} do
    File.write!(Path.join(dir, "lock"), "#{System.pid()}\n")
    lock(dir)
  end

  test "the lock is free when its holder has stopped, or has been killed", %{dir: dir} do
    stop_supervised!(lock(dir))
    id = lock(dir)
    Process.exit(pid(id), :kill)
    eventually(fn -> match?({:ok, _}, Lock.run(dir, fn -> :ours end)) end)
  end

  test "who comes while a killed server lets go waits for it", %{dir: dir} do
    # A pid that nobody has: its server is gone, and what held the lock for it not yet.
    holder = hold(dir)
    File.write!(Path.join(dir, "lock"), "999999999\n")
    late = Task.async(fn -> Lock.run(dir, fn -> :ours end) end)
    # The other flock process exists: the task waits.
    eventually(fn -> length(flocks(dir)) == 1 end)
    Port.close(holder)
    assert Task.await(late, 20_000) == {:ok, :ours}
  end

  test "a lock whose program was killed is taken again; where another server was faster, this one stops",
       %{dir: dir} do
    id = lock(dir)
    first = program(id)
    System.cmd("kill", ["-KILL", "#{first}"])
    eventually(fn -> program(id) not in [first, nil] end)
    assert Port.info(:sys.get_state(pid(id)).port) != nil

    ref = Process.monitor(pid(id))
    :ok = :sys.suspend(pid(id))
    System.cmd("kill", ["-KILL", "#{program(id)}"])
    other = hold(dir)
    {:os_pid, holder} = Port.info(other, :os_pid)
    File.write!(Path.join(dir, "lock"), "#{holder}\n")
    :ok = :sys.resume(pid(id))
    assert_receive {:DOWN, ^ref, :process, _pid, sentence}
    assert sentence =~ "in use by another Koma server"
    Port.close(other)
  end

  test "a folder that cannot be used is named with the reason", %{dir: dir} do
    file = Path.join(dir, "file")
    File.write!(file, "")
    assert {:error, sentence} = start(file)
    assert sentence =~ "#{file} cannot be used: not a directory"
    assert {:error, sentence} = start(Path.join(file, "below"))
    assert sentence =~ "cannot be used: not a directory"
    assert {:error, sentence} = Lock.run(Path.join(dir, "absent"), fn -> :never end)
    assert sentence =~ "cannot be used: no such file or directory"
  end

  test "a data folder that Koma makes is for its owner only", %{dir: dir} do
    data = Path.join(dir, "new/data")
    lock(data)
    assert mode(data) == 0o700
    assert mode(Path.join(data, "lock")) == 0o600
  end

  defp mode(path), do: Bitwise.band(File.stat!(path).mode, 0o777)

  defp lock(dir) do
    id = make_ref()
    options = Options.new!(data_dir: dir)
    start_supervised!(Supervisor.child_spec({Lock, options}, id: id, restart: :temporary))
    id
  end

  defp start(dir) do
    spec = Supervisor.child_spec({Lock, Options.new!(data_dir: dir)}, id: make_ref())
    with {:error, {sentence, _child}} <- start_supervised(spec), do: {:error, sentence}
  end

  defp pid(id) do
    {:ok, supervisor} = ExUnit.fetch_test_supervisor()
    List.keyfind(Supervisor.which_children(supervisor), id, 0) |> elem(1)
  end

  defp program(id) do
    case :sys.get_state(pid(id)).port |> Port.info(:os_pid) do
      {:os_pid, os_pid} -> if alive?(os_pid), do: os_pid
      nil -> nil
    end
  end

  # Another program with the lock.
  defp hold(dir) do
    arguments = ["--no-fork", Path.join(dir, "lock"), "sh", "-c", "echo held; exec cat"]
    options = [:binary, args: arguments]
    port = Port.open({:spawn_executable, System.find_executable("flock")}, options)
    assert_receive {^port, {:data, "held\n"}}
    port
  end

  # Those that wait for it: one that has it has become another program.
  defp flocks(dir) do
    for name <- File.ls!("/proc"),
        {_pid, ""} <- [Integer.parse(name)],
        {:ok, command} <- [File.read("/proc/#{name}/cmdline")],
        String.starts_with?(Path.basename(hd(String.split(command, <<0>>))), "flock"),
        command =~ dir,
        do: name
  end
end
