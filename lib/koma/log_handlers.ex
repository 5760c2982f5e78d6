defmodule Koma.LogHandlers do
  @moduledoc """
  Brings the handlers of the log back. Erlang's logger removes a handler for good whose code fails
  once, e.g. where a module cannot be loaded because no file descriptor is free. A server must not
  go blind by that, so what was there at the start is looked for again and again.
  """
  use GenServer
  require Logger

  @look_every_ms 1_000

  @doc "Starts it; the handlers that are there now are the ones that it keeps."
  @spec start_link(term) :: GenServer.on_start()
  def start_link(_options), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @impl GenServer
  def init(nil) do
    look_later()
    {:ok, :logger.get_handler_config()}
  end

  @impl GenServer
  def handle_info(:look, handlers) do
    there = :logger.get_handler_ids()
    for %{id: id} = handler <- handlers, id not in there, do: bring_back(handler)
    look_later()
    {:noreply, handlers}
  end

  # Where it cannot be had yet, the next look tries again.
  defp bring_back(%{id: id, module: module} = handler) do
    with :ok <- :logger.add_handler(id, module, Map.drop(handler, [:id, :module])) do
      Logger.error("the log's handler #{inspect(id)} had failed and is back")
    else
      {:error, _not_yet} -> :ok
    end
  end

  defp look_later, do: Process.send_after(self(), :look, @look_every_ms)
end
