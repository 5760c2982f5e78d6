defmodule Koma.Edge.Drainer do
  @moduledoc """
  Stops the gateway gently. As the last child to start it is the first to be stopped, on
  SIGTERM too: it has new work refused (`draining`), lets running work finish or be handed back
  within `drain_ms`, and closes every WebSocket with 1012 (restart), never 1000, so that clients
  connect again. Until then connections stay open and are told what becomes of their jobs.
  """

  use GenServer

  require Logger

  alias Koma.Channel.Sockets
  alias Koma.HTTP.Listener
  alias Koma.Options

  # For the close frames to be written, and for what the sockets still had to send.
  @close_ms 3_000

  @doc false
  @spec child_spec(Koma.Options.t()) :: Supervisor.child_spec()
  def child_spec(options) do
    shutdown = options.drain_ms + @close_ms + 5_000
    %{id: __MODULE__, start: {__MODULE__, :start_link, [options]}, shutdown: shutdown}
  end

  @doc "Starts the drainer; its end is what it is for."
  @spec start_link(Koma.Options.t()) :: GenServer.on_start()
  def start_link(options), do: GenServer.start_link(__MODULE__, options.drain_ms)

  @impl true
  def init(drain_ms) do
    _was = Process.flag(:trap_exit, true)
    {:ok, drain_ms}
  end

  @impl true
  def terminate(_reason, drain_ms) do
    Logger.info("Draining: no new work, up to #{drain_ms} ms for what runs")
    :ok = Koma.drain(drain_ms)

    if :gateway in Options.get().roles do
      # Who connects now would find its socket cut off instead of closed.
      _suspended = Listener.suspend()
      close_sockets()
    end
  end

  defp close_sockets do
    monitors = for socket <- Sockets.all(), do: Process.monitor(socket)
    :ok = Sockets.close_all()
    deadline = System.monotonic_time(:millisecond) + @close_ms
    Enum.each(monitors, &await_down(&1, deadline))
  end

  defp await_down(monitor, deadline) do
    receive do
      {:DOWN, ^monitor, :process, _socket, _reason} -> :ok
    after
      max(deadline - System.monotonic_time(:millisecond), 0) -> :ok
    end
  end
end
