defmodule Koma.Supervisor do
  @moduledoc """
  Everything that runs, started from left to right, stopped from right to left.

      Koma.Supervisor (one_for_one)
      ├── Telemetry
      ├── Core (rest_for_one)   Store → ModelNodes → Scheduler → Queues → Jobs
      └── Edge                  what listens; calls the façade `Koma` only

  If a part of Core dies, all that stands behind it starts again, and the stored jobs go on. Edge
  is beside Core and not behind it, so a client keeps its socket while Core recovers.
  """
  use Supervisor

  alias Koma.Options

  @doc "Starts the gateway with checked options, which become those of this peer."
  @spec start_link(Options.t()) :: Supervisor.on_start()
  def start_link(%Options{} = options) do
    Supervisor.start_link(__MODULE__, options, name: __MODULE__)
  end

  @impl Supervisor
  def init(options) do
    Options.put(options)

    core = [
      {Koma.Store, options},
      {Koma.ModelNode, options},
      Koma.Scheduler,
      {Koma.Queue, options},
      Koma.Job.Processes
    ]

    flags = [strategy: :rest_for_one, max_restarts: 20, max_seconds: 10, name: Koma.Core]

    core = %{
      id: Koma.Core,
      type: :supervisor,
      start: {Supervisor, :start_link, [core, flags]}
    }

    Supervisor.init([Koma.Telemetry, core | edge(options)], strategy: :one_for_one)
  end

  defp edge(%Options{edge: false}), do: []
  defp edge(options), do: [{Koma.Edge, options}]
end
