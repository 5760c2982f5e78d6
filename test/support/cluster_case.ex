defmodule Koma.ClusterCase do
  @moduledoc """
  Tests with several peers: each is a whole BEAM in an operating system process of its own, with model
  nodes of its own. They are steered over their standard input and output (`:peer`), so a
  test goes on when they lose each other, and the test itself is no peer. `epmd` is one of the test's own.
  """
  use ExUnit.CaseTemplate

  import Koma.CoreCase, only: [eventually: 1]

  alias Koma.{Caller, CoreCase}
  alias Koma.Store.Artifacts

  @cookie "a-secret-of-the-tests-only"

  using do
    quote do
      import Koma.CoreCase, except: [submit!: 1, submit!: 2, await_end: 1, await_end: 2]
      import Koma.ClusterCase
      alias Koma.Caller
    end
  end

  setup do
    dir = Koma.TestFolder.new("cluster")
    epmd = start_epmd()
    {:ok, dir: dir, epmd: epmd}
  end

  defp start_epmd do
    port = Koma.FreePort.take()
    command = "exec epmd -port #{port} -address 127.0.0.1 -relaxed_command_check"
    # The shell is there to be told when the test has died.
    script = "#{command} & pid=$!; read _line; kill $pid"
    process = Port.open({:spawn_executable, "/bin/sh"}, args: ["-c", script])
    on_exit(fn -> if Port.info(process), do: Port.close(process) end)
    eventually(fn -> match?({:ok, _}, connect(port)) end)
    port
  end

  defp connect(port) do
    with {:ok, socket} <- :gen_tcp.connect({127, 0, 0, 1}, port, []),
         do: {:ok, :gen_tcp.close(socket)}
  end

  @doc "The names of a cluster of this test: no two tests have one in common."
  @spec names(map, [String.t()]) :: [node]
  def names(%{epmd: port}, shorts), do: for(short <- shorts, do: :"#{short}#{port}@127.0.0.1")

  @doc """
  Starts a peer; its number among the `names` is `n`. Options are those of `Koma.Options`, and `args`:
  further arguments of the BEAM. Returns once it runs, not once its model nodes do.
  """
  @spec start_peer(map, [node], non_neg_integer, keyword) :: map
  def start_peer(context, names, n, overrides \\ []) do
    {:ok, peer} = boot_peer(context, names, n, overrides)
    peer
  end

  @doc "As `start_peer/4`, for one that may refuse to start."
  @spec boot_peer(map, [node], non_neg_integer, keyword) :: {:ok, map} | {:error, term}
  def boot_peer(context, names, n, overrides) do
    {args, overrides} = Keyword.pop(overrides, :args, [])
    name = Enum.at(names, n)
    {:ok, control, _node} = :peer.start(peer_options(context, args))
    peer = %{name: name, control: control, n: n, names: names, context: context}
    peer = Map.put(peer, :overrides, overrides)
    peer = Map.put(peer, :os_pid, peer |> call(:os, :getpid, []) |> List.to_integer())
    on_exit(fn -> kill(peer) end)
    dir = Path.join(context.dir, to_string(n))
    File.mkdir_p!(dir)
    overrides = Keyword.merge(options(name, names), overrides)
    with :ok <- call(peer, __MODULE__, :boot, [dir, overrides]), do: {:ok, peer}
  end

  defp options(name, names) do
    peers = for other <- names, do: Atom.to_string(other)
    [node: Atom.to_string(name), cookie: @cookie, peers: peers, port: 0, edge: true, tick_s: 4]
  end

  defp peer_options(%{epmd: port}, args) do
    paths = Enum.flat_map(:code.get_path(), &['-pa', &1])
    args = paths ++ ['-epmd_port', '#{port}' | args]
    %{connection: :standard_io, args: args, wait_boot: 60_000, shutdown: :halt}
  end

  @doc "Runs in a peer: starts all of Koma, kept by a process that nobody ends."
  @spec boot(Path.t(), keyword) :: :ok | {:error, term}
  def boot(dir, overrides) do
    me = self()
    Application.put_env(:koma, :start, false, persistent: true)
    {:ok, _apps} = Application.ensure_all_started(:koma)
    log_to(Path.join(dir, "log"))
    overrides = Keyword.put_new(overrides, :edge, true)

    spawn(fn ->
      Process.flag(:trap_exit, true)
      options = CoreCase.options(dir, overrides)
      send(me, {:booted, start(options)})
      receive do: (:stop -> Supervisor.stop(Koma.Supervisor, :shutdown, 60_000))
    end)
    |> Process.register(:koma_test_boot)

    receive do: ({:booted, result} -> result)
  end

  defp log_to(file) do
    Logger.configure(level: :info)
    :ok = Logger.remove_backend(:console)
    config = %{config: %{file: String.to_charlist(file)}, level: :info}
    :ok = :logger.add_handler(:koma_test, :logger_std_h, config)
  end

  @doc "What a peer has logged."
  @spec log(map) :: String.t()
  def log(%{context: context, n: n}) do
    case File.read(Path.join([context.dir, to_string(n), "log"])) do
      {:ok, text} -> text
      {:error, :enoent} -> ""
    end
  end

  defp start(options) do
    case Koma.Supervisor.start_link(options) do
      {:ok, _pid} ->
        :ok

      {:error, {:shutdown, {:failed_to_start_child, _child, {:EXIT, {error, _trace}}}}} ->
        {:error, error}

      {:error, reason} ->
        {:error, reason}
    end
  end

  @doc "Stops a peer in an orderly way, as SIGTERM does."
  @spec stop(map) :: :ok
  def stop(peer) do
    _gone = call(peer, Supervisor, :stop, [Koma.Supervisor, :shutdown, 60_000])
    kill(peer)
  end

  @doc "Kills a peer with SIGKILL; its model nodes die with it."
  @spec kill(map) :: :ok
  def kill(%{control: control, os_pid: os_pid}) do
    System.cmd("kill", ["-KILL", "#{os_pid}"], stderr_to_stdout: true)
    ref = Process.monitor(control)

    receive do
      {:DOWN, ^ref, :process, _pid, _reason} -> :ok
    after
      10_000 -> raise "a peer does not die"
    end
  end

  @doc "Starts a peer that was killed or stopped again, in its folder."
  @spec restart(map, keyword) :: map
  def restart(peer, overrides \\ []), do: start_peer(peer.context, peer.names, peer.n, overrides)

  @doc "Calls a function in a peer."
  @spec call(map, module, atom, [term]) :: term
  def call(%{control: control}, module, function, arguments) do
    :peer.call(control, module, function, arguments, 60_000)
  end

  @doc "Waits until all these peers are connected with each other and see so many ready model nodes."
  @spec await_cluster([map], non_neg_integer) :: :ok
  def await_cluster(peers, nodes) do
    for peer <- peers do
      eventually(fn -> call(peer, __MODULE__, :sees, []) == {length(peers) - 1, nodes} end)
    end

    :ok
  end

  @doc "Runs in a peer: how many others, and how many ready model nodes of all, it sees."
  @spec sees() :: {non_neg_integer, non_neg_integer}
  def sees do
    rows = Koma.ModelNode.Catalogue.rows() ++ Koma.Cluster.rows()
    {length(Koma.Cluster.peers()), Enum.count(rows, &(&1.phase == :ready))}
  end

  @doc "Submits a toy job to a peer; `request` may hold more than the parameters."
  @spec submit!(map, map, map) :: map
  def submit!(peer, params \\ %{}, request \\ %{}) do
    request =
      Map.merge(%{"task" => "toy.run", "params" => params, "on_disconnect" => "keep"}, request)

    {:ok, job} = call(peer, Koma, :submit, [request, %Caller{}])
    job
  end

  @doc "Follows a job on a peer to its end; returns all its events."
  @spec await_end(map, String.t()) :: [Koma.Job.Event.t()]
  def await_end(peer, id), do: call(peer, CoreCase, :await_end, [id, 50_000])

  @doc "Runs in a peer: what is told of a job after a number, until it ends or some seconds are over."
  @spec follow_for(String.t(), non_neg_integer) :: [Koma.Job.Event.t()]
  def follow_for(id, seen) do
    case Koma.Follower.start({:job, id}, seen, %Caller{}) do
      {:ok, follower, _job, events, _previews} ->
        events = events ++ told(follower, System.monotonic_time(:millisecond) + 10_000)
        :ok = Koma.unsubscribe(id)
        events

      {:error, %{code: "unavailable"}} ->
        Process.sleep(500)
        []
    end
  end

  defp told(%{ended: true}, _until), do: []

  defp told(follower, until) do
    receive do
      message ->
        case Koma.Follower.handle(follower, message) do
          {:events, events, follower} -> events ++ told(follower, until)
          _other -> told(follower, until)
        end
    after
      max(until - System.monotonic_time(:millisecond), 0) -> []
    end
  end

  @doc "Waits until a job on a peer has made a step."
  @spec await_step(map, String.t()) :: true
  def await_step(peer, id), do: call(peer, CoreCase, :await_step, [id])

  @doc "Stores an artifact on a peer; returns its id."
  @spec store!(map, binary) :: String.t()
  def store!(peer, bytes), do: call(peer, __MODULE__, :store, [bytes])

  @doc "Runs in a peer: stores an artifact."
  @spec store(binary) :: String.t()
  def store(bytes) do
    {:ok, writer} = Artifacts.open("application/octet-stream")
    {:ok, writer} = Artifacts.write(writer, bytes)
    {:ok, artifact, _new} = Artifacts.commit(writer, nil)
    artifact.id
  end

  @doc "On which peer the last attempt of a story ran; nil for the one that has the job."
  @spec ran_on([Koma.Job.Event.t()]) :: String.t() | nil
  def ran_on(events) do
    %{data: %{"node" => node}} = events |> Enum.reverse() |> Enum.find(&(&1.type == "started"))
    with [_name, peer] <- String.split(node, "@", parts: 2), do: peer, else: (_ -> nil)
  end

  @doc "Cuts two peers off from each other, as a firewall would: no connection, and none comes about."
  @spec cut(map, map) :: :ok
  def cut(a, b) do
    for {one, other} <- [{a, b}, {b, a}] do
      call(one, :erlang, :set_cookie, [other.name, :"no-cookie-of-#{one.name}"])
      call(one, :erlang, :disconnect_node, [other.name])
    end

    :ok
  end

  @doc "Ends that."
  @spec heal(map, map) :: :ok
  def heal(a, b) do
    for {one, other} <- [{a, b}, {b, a}],
        do: call(one, :erlang, :set_cookie, [other.name, String.to_atom(@cookie)])

    :ok
  end
end
