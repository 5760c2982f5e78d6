defmodule Koma.Access.Connections do
  @moduledoc """
  Bounds the connections of clients, in all and from one address, so that the server keeps file
  descriptors for itself: for the pipes of model nodes, for the files of the store, for Redis.

  A connection is a guest until a request on it shows a key that is known, or the cookie of a
  login. Where keys are asked for and a bound is reached, the guest that has been here longest is
  closed for the one that comes, so that guests who sit idle cannot keep out those who have a key.
  Guests have a bound of their own, too: what one of them has sent and nobody has read yet is memory,
  a quarter of a MiB at most, and so the memory of all guests together is bounded.
  Where no keys are asked for nobody is a guest, and who comes is refused.
  """
  use GenServer
  require Logger

  alias Koma.{Access, Options, Telemetry}
  alias Koma.Access.Descriptors

  @guests Koma.Access.Connections.Guests
  # A flood of refusals is one line.
  @tell_every_ms 10_000

  @enforce_keys [:most, :most_of_address, :most_guests]
  defstruct [
    :most,
    :most_of_address,
    :most_guests,
    :told_at,
    next: 0,
    of: %{},
    addresses: %{},
    guests: :gb_sets.new(),
    guests_of: %{}
  ]

  @typedoc "The bound that is reached: connections in all, of one address, or of guests."
  @type bound :: {:all | :address | :guests, pos_integer}

  @doc "Starts it with the bounds of the options, or those that the file descriptors allow."
  @spec start_link(Options.t()) :: GenServer.on_start()
  def start_link(%Options{} = options),
    do: GenServer.start_link(__MODULE__, options, name: __MODULE__)

  @doc "Counts the calling process, a connection from this address, until it ends; or refuses it."
  @spec admit(:inet.ip_address()) :: :ok | {:refused, bound}
  def admit(address), do: GenServer.call(__MODULE__, {:admit, address}, :infinity)

  @doc "The connection of this process has shown a key or the cookie of a login: it is no guest any more."
  @spec known(pid) :: :ok
  def known(connection) do
    # Asked on every request, and nearly always known already.
    case :ets.lookup(@guests, connection) do
      [_guest] -> GenServer.call(__MODULE__, {:known, connection}, :infinity)
      [] -> :ok
    end
  rescue
    # It starts again, or there is none in a server without listener.
    ArgumentError -> :ok
  catch
    :exit, {_gone, {GenServer, :call, _arguments}} -> :ok
  end

  @doc "Whether the connection of the calling process is that of a guest."
  @spec guest?() :: boolean
  def guest? do
    :ets.member(@guests, self())
  rescue
    ArgumentError -> false
  end

  @doc "How many connections there are, of guests and of others, and how many there may be."
  @spec count() :: %{guests: non_neg_integer, known: non_neg_integer, most: pos_integer}
  def count, do: GenServer.call(__MODULE__, :count)

  @impl GenServer
  def init(%Options{} = options) do
    # All who come wait for it; what it does is short.
    Process.flag(:priority, :high)
    @guests = :ets.new(@guests, [:named_table, :protected, read_concurrency: true])
    most = options.max_connections || Descriptors.for_connections(options)
    of_address = min(options.max_connections_per_address || most - div(most, 8), most)

    Logger.info(
      "#{Descriptors.limit()} file descriptors: at most #{most} connections, #{of_address} of one address"
    )

    bounds = %{most: most, most_of_address: of_address, most_guests: options.max_guests}
    {:ok, struct!(__MODULE__, bounds)}
  end

  @impl GenServer
  def handle_call({:admit, address}, {connection, _tag}, state) do
    case make_room(state, address) do
      {:ok, state} -> {:reply, :ok, enter(state, connection, address)}
      {:refused, bound, state} -> {:reply, {:refused, bound}, refused(state, bound)}
    end
  end

  def handle_call({:known, connection}, _from, state) do
    case state.of do
      %{^connection => {number, address}} ->
        {:reply, :ok, leave_guests(state, connection, number, address)}

      _closed ->
        {:reply, :ok, state}
    end
  end

  def handle_call(:count, _from, state) do
    guests = :ets.info(@guests, :size)
    {:reply, %{guests: guests, known: map_size(state.of) - guests, most: state.most}, state}
  end

  @impl GenServer
  def handle_info({:DOWN, _ref, :process, connection, _reason}, state),
    do: {:noreply, leave(state, connection)}

  # --- who is there: the number and the address of each connection; the guests by number, oldest first

  defp enter(state, connection, address) do
    Process.monitor(connection)
    state = put_in(state.of[connection], {state.next, address})
    state = update_in(state.addresses[address], &((&1 || 0) + 1))
    state = if Access.keys?(), do: enter_guests(state, connection, address), else: state
    %{state | next: state.next + 1}
  end

  defp enter_guests(state, connection, address) do
    :ets.insert(@guests, {connection})
    guests = :gb_sets.add({state.next, connection}, state.guests)
    own = Map.get(state.guests_of, address, :gb_sets.new())
    own = :gb_sets.add({state.next, connection}, own)
    %{state | guests: guests, guests_of: Map.put(state.guests_of, address, own)}
  end

  defp leave(state, connection) do
    case pop_in(state.of[connection]) do
      {nil, state} ->
        state

      {{number, address}, state} ->
        state = leave_guests(state, connection, number, address)
        update_in(state.addresses, &one_less(&1, address))
    end
  end

  defp one_less(addresses, address) do
    case addresses do
      %{^address => 1} -> Map.delete(addresses, address)
      %{^address => all} -> %{addresses | address => all - 1}
    end
  end

  defp leave_guests(state, connection, number, address) do
    :ets.delete(@guests, connection)
    guest = {number, connection}
    own = :gb_sets.del_element(guest, Map.get(state.guests_of, address, :gb_sets.new()))

    guests_of =
      if :gb_sets.is_empty(own),
        do: Map.delete(state.guests_of, address),
        else: Map.put(state.guests_of, address, own)

    %{state | guests: :gb_sets.del_element(guest, state.guests), guests_of: guests_of}
  end

  # --- room

  defp make_room(state, address) do
    cond do
      Map.get(state.addresses, address, 0) >= state.most_of_address ->
        guests = Map.get(state.guests_of, address, :gb_sets.new())
        close_oldest(state, guests, {:address, state.most_of_address})

      map_size(state.of) >= state.most ->
        close_oldest(state, state.guests, {:all, state.most})

      :gb_sets.size(state.guests) >= state.most_guests ->
        close_oldest(state, state.guests, {:guests, state.most_guests})

      true ->
        {:ok, state}
    end
  end

  defp close_oldest(state, guests, bound) do
    if :gb_sets.is_empty(guests) do
      {:refused, bound, state}
    else
      {_number, connection} = :gb_sets.smallest(guests)
      Process.exit(connection, :kill)
      {:ok, state |> leave(connection) |> refused(bound)}
    end
  end

  defp refused(state, {kind, most}) do
    Telemetry.execute([:koma, :access, :crowded], %{count: 1}, %{bound: kind})
    now = System.monotonic_time(:millisecond)

    if state.told_at == nil or now - state.told_at > @tell_every_ms do
      Logger.warning(
        "#{words(kind, most)}; guests are closed, and where there are none who comes is refused"
      )

      %{state | told_at: now}
    else
      state
    end
  end

  defp words(:all, most), do: "there are #{most} connections, as many as there may be"
  defp words(:address, most), do: "one address has #{most} connections, as many as it may have"

  defp words(:guests, most),
    do: "#{most} connections have shown no key, as many as there may be"
end
