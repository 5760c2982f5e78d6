defmodule Koma.Store.Redis.Watch do
  @moduledoc """
  Tells followers on this gateway of the events of jobs that other gateways own, by looking into
  Redis while somebody follows such a job. Whoever follows gets each event once and in order
  (`Koma.Follower`), so what comes by another way, or twice, does no harm.
  """
  use GenServer

  alias Koma.Error
  alias Koma.Job.{Event, Followers, Record}
  alias Koma.Store.{Jobs, Memory}

  @look_ms 500

  @doc "Starts it."
  @spec start_link(term) :: GenServer.on_start()
  def start_link(_options), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "Looks after a job that is another gateway's, until it has ended or nobody follows it."
  @spec follow(String.t(), non_neg_integer | nil) :: :ok
  def follow(id, seq \\ nil), do: GenServer.cast(__MODULE__, {:follow, id, seq})

  @impl GenServer
  def init(nil), do: {:ok, %{}}

  @impl GenServer
  def handle_cast({:follow, id, seq}, jobs) do
    if jobs == %{}, do: later()
    # Nobody misses anything: the follower who knows least is told from there.
    {:noreply, Map.update(jobs, id, seq || Followers.told(id) || 0, &min(&1, seq || &1))}
  end

  @impl GenServer
  def handle_info(:look, jobs) do
    jobs = for {id, seq} <- jobs, next = look(id, seq), into: %{}, do: {id, next}
    if jobs != %{}, do: later()
    {:noreply, jobs}
  end

  def handle_info(_late, jobs), do: {:noreply, jobs}

  defp later do
    _timer = Process.send_after(self(), :look, @look_ms)
    :ok
  end

  # The number of the last event that was told; nil: there is nothing to look after any more.
  defp look(id, seq) do
    cond do
      # It was adopted by this gateway.
      Memory.latest(id) != :error -> nil
      Followers.any?(id) -> tell(id, seq, Jobs.read(id, seq))
      true -> forget(id)
    end
  end

  defp tell(id, _seq, {:ok, record, events}) do
    Followers.tell(id, events)
    if Record.ended?(record), do: forget(id), else: record.seq
  end

  defp tell(id, _seq, :error), do: forget(id)

  # Nobody will ever write its end.
  defp tell(id, seq, {:error, %Error{code: "internal"} = error}) do
    now = System.system_time(:millisecond)
    Followers.tell(id, [%Event{seq: seq + 1, type: "failed", at: now, data: Error.to_map(error)}])
    forget(id)
  end

  defp tell(_id, seq, {:error, _away}), do: seq

  defp forget(id) do
    Followers.ended(id)
    nil
  end
end
