defmodule Koma.Access.Usage do
  @moduledoc """
  How much the keys use: requests, what they hold at the moment, and what they used up today.

  Requests and daily sums are counted in ETS by whoever asks; what is held goes through this process,
  which monitors the holders. Daily sums (UTC) are kept in `access/usage.json` below `data_dir`,
  written every few seconds: a killed server forgets the last of them.
  """
  use GenServer
  require Logger

  alias Koma.Access.{Bucket, Holds}
  alias Koma.{JSON, Options}
  alias Koma.Store.Folder

  @buckets __MODULE__.Buckets
  @days __MODULE__.Days
  @write_ms 5_000
  @day_s 86_400

  @type key :: String.t()
  @type daily :: :jobs_per_day | :bytes_per_day
  # By name, so that nothing in a file becomes an atom.
  @daily %{"jobs_per_day" => :jobs_per_day, "bytes_per_day" => :bytes_per_day}

  @doc "Starts it."
  @spec start_link(Options.t()) :: GenServer.on_start()
  def start_link(%Options{} = options) do
    GenServer.start_link(__MODULE__, options, name: __MODULE__)
  end

  @doc "Counts a request: `:ok`, or how long to wait until there is room for one."
  @spec request(key, rate :: pos_integer, burst :: pos_integer) ::
          :ok | {:wait, ms :: pos_integer}
  def request(key, rate, burst) do
    now = System.monotonic_time(:nanosecond)

    before =
      case :ets.lookup(@buckets, key) do
        [{^key, bucket}] -> bucket
        [] -> nil
      end

    with {:ok, bucket} <- Bucket.take(before || now, now, rate, burst) do
      if swap(key, before, bucket), do: :ok, else: request(key, rate, burst)
    end
  end

  # Fails where somebody else was quicker.
  defp swap(key, nil, bucket), do: :ets.insert_new(@buckets, {key, bucket})

  defp swap(key, before, bucket) do
    :ets.select_replace(@buckets, [{{key, before}, [], [{{key, bucket}}]}]) == 1
  end

  @doc "Uses up some of what a key may have today; nothing where that is less than `amount`."
  @spec spend(key, daily, non_neg_integer, limit :: pos_integer | nil) :: :ok | :used_up
  def spend(key, kind, amount, limit) do
    if add(key, kind, amount) <= (limit || :infinity) do
      :ok
    else
      _sum = add(key, kind, -amount)
      :used_up
    end
  end

  @doc "Gives back what was spent for nothing."
  @spec refund(key, daily, non_neg_integer) :: :ok
  def refund(key, kind, amount) do
    _sum = add(key, kind, -amount)
    :ok
  end

  @doc "What a key used up today."
  @spec spent(key, daily) :: non_neg_integer
  def spent(key, kind), do: add(key, kind, 0)

  defp add(key, kind, amount) do
    :ets.update_counter(@days, {today(), key, kind}, amount, {nil, 0})
  end

  @doc "How long it takes until the next day, in ms."
  @spec until_tomorrow_ms() :: pos_integer
  def until_tomorrow_ms do
    day_ms = @day_s * 1000
    day_ms - rem(System.system_time(:millisecond), day_ms)
  end

  @doc "A process holds something for a key until it gives it back or dies; `:full` at the limit."
  @spec take(pid, key, Holds.kind(), pos_integer, limit :: non_neg_integer | nil) :: :ok | :full
  def take(pid, key, kind, amount, limit) do
    GenServer.call(__MODULE__, {:take, pid, {key, kind}, amount, limit})
  end

  @doc "It holds so much less."
  @spec give(pid, key, Holds.kind(), pos_integer) :: :ok
  def give(pid, key, kind, amount) do
    GenServer.cast(__MODULE__, {:give, pid, {key, kind}, amount})
  end

  @doc "What a key holds."
  @spec held(key, Holds.kind()) :: non_neg_integer
  def held(key, kind), do: GenServer.call(__MODULE__, {:held, {key, kind}})

  @doc "Sends `message` to every process that holds a socket."
  @spec tell_sockets(term) :: :ok
  def tell_sockets(message), do: GenServer.cast(__MODULE__, {:tell_sockets, message})

  @impl GenServer
  def init(%Options{data_dir: dir}) do
    _was = Process.flag(:trap_exit, true)
    public = [:set, :named_table, :public, write_concurrency: true]
    @buckets = :ets.new(@buckets, public)
    @days = :ets.new(@days, public)
    path = Path.join([dir, "access", "usage.json"])
    :ok = read(path)
    {:ok, write_later(%{path: path, written: daily_sums(), holds: %Holds{}, monitors: %{}})}
  end

  @impl GenServer
  def handle_call({:take, pid, what, amount, limit}, _from, state) do
    case Holds.take(state.holds, pid, what, amount, limit) do
      {:ok, holds} -> {:reply, :ok, watch(%{state | holds: holds}, pid)}
      :full -> {:reply, :full, state}
    end
  end

  def handle_call({:held, what}, _from, state), do: {:reply, Holds.sum(state.holds, what), state}

  @impl GenServer
  def handle_cast({:give, pid, what, amount}, state) do
    {:noreply, unwatch(%{state | holds: Holds.give(state.holds, pid, what, amount)}, pid)}
  end

  def handle_cast({:tell_sockets, message}, state) do
    for pid <- Holds.holders(state.holds, :sockets), do: send(pid, message)
    {:noreply, state}
  end

  @impl GenServer
  def handle_info({:DOWN, _monitor, :process, pid, _reason}, state) do
    {:noreply, unwatch(%{state | holds: Holds.drop(state.holds, pid)}, pid)}
  end

  def handle_info(:write, state), do: {:noreply, state |> write() |> write_later()}
  def handle_info({:EXIT, _port_or_pid, _reason}, state), do: {:noreply, state}

  @impl GenServer
  def terminate(_reason, state), do: write(state)

  defp watch(%{monitors: monitors} = state, pid) when is_map_key(monitors, pid), do: state

  defp watch(state, pid) do
    %{state | monitors: Map.put(state.monitors, pid, Process.monitor(pid))}
  end

  defp unwatch(state, pid) do
    if Holds.holder?(state.holds, pid) do
      state
    else
      {monitor, monitors} = Map.pop(state.monitors, pid)
      if monitor, do: Process.demonitor(monitor, [:flush])
      %{state | monitors: monitors}
    end
  end

  # --- the file

  defp write_later(state) do
    _timer = Process.send_after(self(), :write, @write_ms)
    state
  end

  defp write(%{written: written} = state) do
    today = today()
    :ets.select_delete(@days, [{{{:"$1", :_, :_}, :_}, [{:<, :"$1", today}], [true]}])

    case daily_sums() do
      ^written ->
        state

      sums ->
        with {:error, reason} <- write(state.path, %{"day" => today, "used" => sums}),
             do: Logger.error("#{state.path}: not written: #{:file.format_error(reason)}")

        %{state | written: sums}
    end
  end

  defp write(path, value) do
    new = path <> ".new"

    with :ok <- Folder.make(Path.dirname(path)),
         :ok <- Folder.touch(new),
         :ok <- File.write(new, JSON.encode!(value)),
         do: File.rename(new, path)
  end

  defp daily_sums do
    for {{_day, key, kind}, sum} when sum > 0 <- :ets.tab2list(@days), reduce: %{} do
      sums -> Map.update(sums, key, %{kind => sum}, &Map.put(&1, kind, sum))
    end
  end

  defp read(path) do
    today = today()

    with {:ok, text} <- File.read(path),
         {:ok, %{"day" => ^today, "used" => %{} = used}} <- JSON.decode(text) do
      for {key, %{} = sums} <- used,
          {name, sum} when is_map_key(@daily, name) and is_integer(sum) <- sums,
          do: :ets.insert(@days, {{today, key, @daily[name]}, sum})

      :ok
    else
      # Of an earlier day, not there yet, or spoilt: the day begins.
      _nothing -> :ok
    end
  end

  defp today, do: div(System.system_time(:second), @day_s)
end
