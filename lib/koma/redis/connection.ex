defmodule Koma.Redis.Connection do
  @moduledoc """
  The connection to Redis: one `eredis` client, made anew after a growing pause when it is lost.

  It is up once Redis has let us in and knows the scripts. It is down from the moment it is lost
  or the breaker (`Koma.Redis.Breaker`) opens: then the client is killed, since what a hung Redis
  still owes would only come in the way. Each change of state is one log line and one telemetry
  event. Callers find the client in a table, so no command passes through this process.
  """
  use GenServer
  require Logger

  alias Koma.Redis.{Address, Breaker, Scripts}
  alias Koma.{LogLine, Telemetry}

  @table __MODULE__
  @threshold 3
  @min_pause_ms 100
  @max_pause_ms 5_000

  defstruct [:address, :timeout_ms, :client, :breaker, :told, :run_id]

  @doc "Starts it. Options: `:address`, `:timeout_ms`."
  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(options), do: GenServer.start_link(__MODULE__, options, name: __MODULE__)

  @doc "The client while Redis is up."
  @spec client() :: {:ok, pid} | :down
  def client do
    case :ets.lookup(@table, :client) do
      [{:client, client}] -> {:ok, client}
      [] -> :down
    end
  rescue
    ArgumentError -> :down
  end

  @doc "The state of the breaker."
  @spec breaker() :: Breaker.state()
  def breaker, do: :ets.lookup_element(@table, :breaker, 2)

  @doc """
  Which process of Redis answers, nil while none does: another one may have lost what the one
  before it knew.
  """
  @spec run_id() :: String.t() | nil
  def run_id do
    case :ets.lookup(@table, :run_id) do
      [{:run_id, run_id}] -> run_id
      [] -> nil
    end
  rescue
    ArgumentError -> nil
  end

  @doc "A client answered in time."
  @spec answered(pid) :: :ok
  def answered(client) do
    # Only news travels: the breaker counts failures in a row.
    if :ets.lookup(@table, :failing) != [], do: GenServer.cast(__MODULE__, {:answered, client})
    :ok
  rescue
    ArgumentError -> :ok
  end

  @doc "A client did not answer in time, lost its connection, or got an answer that helps nobody."
  @spec failed(pid, reason :: atom) :: :ok
  def failed(client, reason), do: GenServer.cast(__MODULE__, {:failed, client, reason})

  @impl GenServer
  def init(options) do
    _was = Process.flag(:trap_exit, true)
    @table = :ets.new(@table, [:named_table, :protected, read_concurrency: true])
    breaker = Breaker.new(@threshold, @min_pause_ms, @max_pause_ms)
    address = Keyword.fetch!(options, :address)
    timeout_ms = Keyword.fetch!(options, :timeout_ms)
    state = %__MODULE__{address: address, timeout_ms: timeout_ms, breaker: breaker}
    # The first trial is made here: with a Redis that is there, the gateway starts with it.
    {:ok, connect(state)}
  end

  @impl GenServer
  def handle_cast({:answered, client}, %{client: client} = state) do
    :ets.delete(@table, :failing)
    {:noreply, put_breaker(state, Breaker.success(state.breaker))}
  end

  def handle_cast({:failed, client, :timeout}, %{client: client} = state) do
    :ets.insert(@table, {:failing, true})
    state = put_breaker(state, Breaker.failure(state.breaker))

    if state.breaker.state == :open,
      do: {:noreply, down(state, "it did not answer within #{state.timeout_ms} ms")},
      else: {:noreply, state}
  end

  def handle_cast({:failed, client, reason}, %{client: client} = state) do
    {:noreply, down(state, reason)}
  end

  def handle_cast({_news, _earlier_client}, state), do: {:noreply, state}
  def handle_cast({:failed, _earlier_client, _reason}, state), do: {:noreply, state}

  @impl GenServer
  def handle_info(:connect, %{client: nil} = state), do: {:noreply, connect(state)}
  def handle_info(:connect, state), do: {:noreply, state}

  def handle_info({:EXIT, client, _reason}, %{client: client} = state) do
    {:noreply, down(state, :closed)}
  end

  def handle_info({:EXIT, _earlier, _reason}, state), do: {:noreply, state}
  # A late answer to a call that was given up.
  def handle_info(_late, state), do: {:noreply, state}

  @impl GenServer
  def terminate(_reason, %{client: client}), do: kill(client)

  defp connect(state) do
    state = put_breaker(state, Breaker.try(state.breaker))

    with {:ok, client} <- open(state),
         {:ok, run_id} <- greet(client, state) do
      up(%{state | client: client, run_id: run_id})
    else
      {:error, reason} -> down(state, reason)
    end
  end

  defp open(%{address: address, timeout_ms: timeout_ms}) do
    host = resolve(address.host)

    case :eredis.start_link(host, address.port, :undefined, '', :no_reconnect, timeout_ms) do
      {:ok, client} -> {:ok, client}
      {:error, {:connection_error, reason}} -> {:error, reason}
      {:error, reason} -> {:error, reason}
    end
  end

  # eredis takes IPv6 where a name has both; most Redis listen on IPv4.
  defp resolve(host) do
    name = String.to_charlist(host)

    case :inet.getaddr(name, :inet) do
      {:ok, ip} -> :inet.ntoa(ip)
      {:error, _reason} -> name
    end
  end

  defp greet(client, %{address: address, timeout_ms: timeout_ms}) do
    result =
      with :ok <- each(client, Address.commands(address), timeout_ms),
           :ok <- each(client, Scripts.load(), timeout_ms),
           {:ok, server} <- :eredis.q(client, ["INFO", "server"], timeout_ms),
           {:ok, replication} <- :eredis.q(client, ["INFO", "replication"], timeout_ms),
           :ok <- master(replication),
           {:ok, memory} <- :eredis.q(client, ["INFO", "memory"], timeout_ms) do
        warn_of_eviction(field(memory, "maxmemory_policy"))
        warn_of_no_log(:eredis.q(client, ["CONFIG", "GET", "appendonly"], timeout_ms))
        {:ok, field(server, "run_id")}
      end

    with {:error, _reason} <- result do
      kill(client)
      result
    end
  catch
    :exit, {:timeout, _call} ->
      kill(client)
      {:error, "it did not answer within #{timeout_ms} ms"}

    :exit, _gone ->
      {:error, :closed}
  end

  defp each(client, commands, timeout_ms) do
    Enum.find_value(commands, :ok, fn command ->
      with {:ok, _reply} <- :eredis.q(client, command, timeout_ms), do: nil
    end)
  end

  defp master(replication) do
    if field(replication, "role") == "master", do: :ok, else: {:error, "it is a replica"}
  end

  defp field(info, name) do
    case Regex.run(~r/^#{name}:(\S+)/m, info) do
      [_line, value] -> value
      nil -> nil
    end
  end

  # Told each time that it is found so: somebody may have changed it while Redis was away.
  defp warn_of_eviction(policy) when policy in ["noeviction", nil], do: :ok

  defp warn_of_eviction(policy) do
    Logger.error(
      "Redis may delete jobs when its memory is full: its maxmemory-policy is #{LogLine.text(policy, 40)}, " <>
        "set it to noeviction. What it deletes of live jobs is written anew from memory"
    )
  end

  # Told once in the life of a connection process; where CONFIG is forbidden, not at all.
  defp warn_of_no_log({:ok, ["appendonly", "no"]}) do
    if :ets.insert_new(@table, {:warned, true}) do
      Logger.warning("Redis keeps no append-only file: a crash of Redis may lose accepted jobs")
    end
  end

  defp warn_of_no_log(_kept_or_unknown), do: :ok

  defp up(state) do
    :ets.delete(@table, :failing)
    :ets.insert(@table, [{:client, state.client}, {:run_id, state.run_id}])
    state = put_breaker(state, Breaker.success(state.breaker))
    tell(state, :up, nil)
  end

  defp down(state, reason) do
    :ets.delete(@table, :client)
    :ets.delete(@table, :failing)
    kill(state.client)
    state = put_breaker(%{state | client: nil}, Breaker.open(state.breaker))

    _timer =
      Process.send_after(self(), :connect, Breaker.pause_ms(state.breaker, :rand.uniform()))

    tell(state, :down, show(reason))
  end

  # Once per change, however often it is tried.
  defp tell(%{told: told} = state, told, _reason), do: state

  defp tell(state, now, reason) do
    address = Address.show(state.address)

    if now == :up,
      do: Logger.info("Redis #{address} is up"),
      else:
        Logger.error("Redis #{address} is down: #{LogLine.text(reason, 200)}; it is tried again")

    Telemetry.execute([:koma, :redis, :changed], %{count: 1}, %{state: now, reason: reason})
    %{state | told: now}
  end

  defp put_breaker(state, breaker) do
    :ets.insert(@table, {:breaker, breaker.state})
    %{state | breaker: breaker}
  end

  defp show(:econnrefused), do: "nobody listens there"
  defp show(:closed), do: "it closed the connection"
  defp show(:useless), do: "it takes no commands now"
  defp show(reason) when is_binary(reason), do: reason
  defp show(reason), do: inspect(reason, limit: 5, printable_limit: 200)

  defp kill(nil), do: :ok

  defp kill(client) do
    Process.unlink(client)
    Process.exit(client, :kill)
    :ok
  end
end
