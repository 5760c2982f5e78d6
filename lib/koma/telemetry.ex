defmodule Koma.Telemetry do
  @moduledoc """
  Events of the road of a job, with the interface of the `telemetry` library (Debian does not
  carry it), kept as small as what is used. `Koma.Telemetry.Events` is the list of them.

  A handler runs in the process that executes the event, so it must be quick. One that raises is
  detached and logged.
  """
  use GenServer
  require Logger

  alias Koma.Telemetry.Events

  @table __MODULE__
  # In tests an event that nobody documented is an error; elsewhere it harms no job.
  @strict Mix.env() == :test

  @type event :: [atom, ...]
  @type handler :: (event, map, map, term -> any)
  @type attachment :: {id :: term, [event], handler, config :: term}

  @doc "Starts the owner of the table of handlers; those given are there after every start."
  @spec start_link([attachment]) :: GenServer.on_start()
  def start_link(attachments) do
    GenServer.start_link(__MODULE__, attachments, name: __MODULE__)
  end

  @doc "Every event that is executed."
  @spec events() :: [event]
  def events, do: Enum.map(Events.all(), & &1.event)

  @doc "Calls `handler` with `config` for each of `events`; `id` must be new."
  @spec attach(term, [event], handler, term) :: :ok | {:error, :already_exists}
  def attach(id, events, handler, config) do
    GenServer.call(__MODULE__, {:attach, {id, events, handler, config}})
  end

  @doc "Takes the handler away."
  @spec detach(term) :: :ok
  def detach(id), do: GenServer.call(__MODULE__, {:detach, id})

  @doc "Tells every handler of `event`. Harmless while nothing is started."
  @spec execute(event, map, map) :: :ok
  def execute(event, measurements, metadata) do
    check(event, measurements, metadata)

    for {_event, id, handler, config} <- handlers(event) do
      try do
        handler.(event, measurements, metadata, config)
      catch
        kind, reason ->
          Logger.error(
            "telemetry handler #{inspect(id)} is detached: " <>
              Exception.format(kind, reason, __STACKTRACE__)
          )

          detach(id)
      end
    end

    :ok
  end

  @doc "Does something on the road of a job, for `part` of it, and tells how long it took."
  @spec span(part :: atom, (() -> result)) :: result when result: var
  def span(part, work) do
    began = System.monotonic_time()
    result = work.()
    spent(part, System.convert_time_unit(System.monotonic_time() - began, :native, :microsecond))
    result
  end

  @doc "So many µs were spent in a part of the road of a job."
  @spec spent(part :: atom, non_neg_integer) :: :ok
  def spent(part, us), do: execute([:koma, :road, :span], %{us: us}, %{part: part})

  if @strict do
    defp check(event, measurements, metadata), do: Events.check!(event, measurements, metadata)
  else
    defp check(_event, _measurements, _metadata), do: :ok
  end

  defp handlers(event) do
    :ets.lookup(@table, event)
  rescue
    ArgumentError -> []
  end

  @impl GenServer
  def init(attachments) do
    @table = :ets.new(@table, [:bag, :named_table, :protected, read_concurrency: true])
    Enum.each(attachments, &insert/1)
    {:ok, MapSet.new(attachments, &elem(&1, 0))}
  end

  @impl GenServer
  def handle_call({:attach, {id, _, _, _} = attachment}, _from, ids) do
    if MapSet.member?(ids, id) do
      {:reply, {:error, :already_exists}, ids}
    else
      insert(attachment)
      {:reply, :ok, MapSet.put(ids, id)}
    end
  end

  def handle_call({:detach, id}, _from, ids) do
    :ets.match_delete(@table, {:_, id, :_, :_})
    {:reply, :ok, MapSet.delete(ids, id)}
  end

  defp insert({id, events, handler, config}) do
    true = :ets.insert(@table, for(event <- events, do: {event, id, handler, config}))
  end
end
