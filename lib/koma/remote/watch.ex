defmodule Koma.Remote.Watch do
  @moduledoc """
  Follows a job or pipeline of another gateway for one process of this one. On the owner's side a
  process (`relay/4`) follows it as any client would, so it is wanted as long as somebody here wants it;
  here a process passes on what comes, and when the owner is lost it follows on wherever the job is
  then. The follower gets every event once and in order: `Koma.Follower` drops what it knows and fetches
  what is missing.
  """
  use GenServer, restart: :temporary

  alias Koma.{Caller, Error, Remote}
  alias Koma.Job.Event

  @registry Koma.Remote.Watches
  @answer_ms 5_000
  @again_ms 500

  @typedoc "`Koma` for jobs, `Koma.Pipeline` for pipelines: what has `subscribe/3` and `unsubscribe/1`."
  @type facade :: module

  @enforce_keys [:facade, :id, :caller, :follower, :seq]
  defstruct [:facade, :id, :caller, :follower, :seq, :relay]

  @doc "Lets the calling process follow; as `subscribe/3` of the façade."
  @spec subscribe(facade, node, String.t(), non_neg_integer, Caller.t()) :: tuple
  def subscribe(facade, owner, id, seq, %Caller{} = caller) do
    unsubscribe(id)
    watch = %__MODULE__{facade: facade, id: id, caller: caller, follower: self(), seq: seq}
    {:ok, pid} = DynamicSupervisor.start_child(Koma.Remote.Visits, {__MODULE__, watch})
    GenServer.call(pid, {:begin, owner}, 2 * @answer_ms)
  catch
    :exit, _reason -> {:error, Remote.away(id, owner)}
  end

  @doc "The calling process follows no longer."
  @spec unsubscribe(String.t()) :: :ok
  def unsubscribe(id) do
    for {pid, _value} <- Registry.lookup(@registry, {self(), id}) do
      ref = Process.monitor(pid)
      GenServer.cast(pid, :stop)
      receive do: ({:DOWN, ^ref, :process, _pid, _reason} -> :ok)
    end

    :ok
  end

  @doc false
  @spec start_link(%__MODULE__{}) :: GenServer.on_start()
  def start_link(watch), do: GenServer.start_link(__MODULE__, watch)

  @impl GenServer
  def init(watch) do
    Process.monitor(watch.follower)
    {:ok, _registry} = Registry.register(@registry, {watch.follower, watch.id}, nil)
    {:ok, watch}
  end

  @impl GenServer
  def handle_call({:begin, owner}, _from, watch) do
    case follow(watch, owner) do
      {:ok, answer, watch} -> {:reply, answer, watch}
      {:error, error} -> {:stop, :normal, {:error, error}, watch}
    end
  end

  @impl GenServer
  def handle_cast(:stop, watch), do: {:stop, :normal, watch}

  @impl GenServer
  def handle_info({:DOWN, _ref, :process, pid, _reason}, %{follower: pid} = watch) do
    {:stop, :normal, watch}
  end

  def handle_info({:DOWN, _ref, :process, pid, _reason}, %{relay: pid} = watch) do
    {:noreply, again_later(%{watch | relay: nil})}
  end

  def handle_info(:again, %{relay: nil} = watch), do: {:noreply, again(watch)}

  def handle_info(message, watch) do
    send(watch.follower, message)
    {:noreply, seen(watch, message)}
  end

  defp seen(watch, {:koma_events, _id, events}), do: Enum.reduce(events, watch, &known/2)
  defp seen(watch, {:koma_pipeline_event, _id, event}), do: known(event, watch)
  defp seen(watch, _preview), do: watch

  defp known(%Event{seq: seq}, watch), do: %{watch | seq: max(watch.seq, seq)}

  defp follow(watch, owner) do
    ref = make_ref()
    arguments = [self(), ref, watch.facade, {watch.id, watch.seq, %{watch.caller | process: nil}}]
    {relay, monitor} = Node.spawn_monitor(owner, __MODULE__, :relay, arguments)

    receive do
      {^ref, {:error, error}} -> {:error, error}
      {^ref, answer} -> {:ok, answer, seen_all(%{watch | relay: relay}, answer)}
      {:DOWN, ^monitor, :process, _pid, _reason} -> {:error, Remote.away(watch.id, owner)}
    after
      @answer_ms -> {:error, Remote.away(watch.id, owner)}
    end
  end

  defp seen_all(watch, answer), do: Enum.reduce(elem(answer, 2), watch, &known/2)

  # The follower knows the number of what it saw last; what came meanwhile is passed on.
  defp again(watch) do
    case Koma.ask(fn -> Remote.owner(watch.id) end, :starting) do
      {:peer, owner} -> resumed(watch, follow(watch, owner))
      :here -> resumed(watch, follow(watch, node()))
      _away_or_starting -> again_later(watch)
    end
  end

  defp resumed(_watch, {:ok, answer, watch}) do
    pass_on(watch, elem(answer, 2))
    watch
  end

  defp resumed(watch, {:error, %Error{}}), do: again_later(watch)

  defp again_later(watch) do
    _timer = Process.send_after(self(), :again, @again_ms)
    watch
  end

  defp pass_on(%{facade: Koma} = watch, events),
    do: send(watch.follower, {:koma_events, watch.id, events})

  defp pass_on(watch, events),
    do: Enum.each(events, &send(watch.follower, {:koma_pipeline_event, watch.id, &1}))

  @doc "Runs on the owner: follows, and passes everything on."
  @spec relay(watch :: pid, reference, facade, {String.t(), non_neg_integer, Caller.t()}) :: :ok
  def relay(watch, ref, facade, {id, seq, caller}) do
    monitor = Process.monitor(watch)
    answer = facade.subscribe(id, seq, caller)
    send(watch, {ref, answer})
    if elem(answer, 0) == :ok, do: relay(watch, monitor), else: :ok
  end

  defp relay(watch, monitor) do
    receive do
      {:DOWN, ^monitor, :process, _pid, _reason} ->
        :ok

      message ->
        send(watch, message)
        relay(watch, monitor)
    end
  end
end
