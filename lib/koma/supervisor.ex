defmodule Koma.Supervisor do
  @moduledoc """
  Everything that runs, started from left to right, stopped from right to left.

      Koma.Supervisor (one_for_one)
      ├── LogHandlers           brings the handlers of the log back
      ├── Lock                  keeps every other server out of the data folder
      ├── Metrics, Telemetry    what is counted, and from which events
      ├── Followers             who follows which job
      ├── Access                who is let in, and how much of what
      ├── Cluster               the other peers, where there are any; these outlive a crash of Core
      ├── Core (rest_for_one)   Store → ModelNodes → Scheduler → Queues → Jobs
      └── Edge                  what listens; calls the façade `Koma` only

  Edge stands beside Core, not behind it: clients keep their sockets while Core recovers.
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

    # Nothing is touched before the folder is ours, and the port is free to be taken.
    children = [
      Koma.LogHandlers,
      {Koma.Store.Lock, options},
      Koma.HTTP.Listener.check_spec(options),
      Koma.Metrics,
      {Koma.Telemetry, Koma.Metrics.handlers() ++ Koma.Dashboard.Errors.handlers()},
      Koma.Job.Followers,
      {Koma.Access, options}
    ]

    children = children ++ cluster(options) ++ [{Koma.Core, options}, {Koma.Edge, options}]

    Supervisor.init(children, strategy: :one_for_one)
  end

  defp cluster(%Options{node: nil}), do: []
  defp cluster(options), do: [{Koma.Cluster, {options, Koma.Remote.above()}}]
end
