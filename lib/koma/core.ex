defmodule Koma.Core do
  @moduledoc """
  Everything behind the façade `Koma`: store, cache, model nodes, scheduler, queues, jobs, in this order.
  If one dies, all that stand behind it start again, and the stored jobs go on.
  """
  use Supervisor

  alias Koma.Options

  @doc "Starts the core with checked options."
  @spec start_link(Options.t()) :: Supervisor.on_start()
  def start_link(%Options{} = options) do
    Supervisor.start_link(__MODULE__, options, name: __MODULE__)
  end

  @impl Supervisor
  def init(options) do
    children = [
      {Koma.Store, options},
      Koma.Cache,
      {Koma.ModelNode, options},
      Koma.Scheduler,
      {Koma.Queue, options},
      Koma.Job.Processes
    ]

    Supervisor.init(children, strategy: :rest_for_one, max_restarts: 20, max_seconds: 10)
  end
end
