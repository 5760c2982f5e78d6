defmodule Koma.Edge do
  @moduledoc """
  Everything that faces clients: pipelines, channels, the dashboard, the listener, and the drainer.

  Started after the rest and stopped before it, from the drainer backwards: new work is
  refused, running work is finished or handed back, connections are closed, then the rest goes.
  The children need nothing from one another at start, so one that crashes restarts alone: a
  listener that has to start again must not set off the drainer.
  """

  use Supervisor

  alias Koma.Edge.{Drainer, Routes}
  alias Koma.HTTP.Listener

  @doc "Starts the edge with the options of this gateway."
  @spec start_link(Koma.Options.t()) :: Supervisor.on_start()
  def start_link(options), do: Supervisor.start_link(__MODULE__, options, name: __MODULE__)

  @impl true
  def init(%Koma.Options{} = options) do
    children = [
      Koma.Pipeline.Followers,
      {Koma.Pipeline.Supervisor, options},
      Koma.Channel.Sockets,
      {DynamicSupervisor, name: Koma.Channel.Supervisor, strategy: :one_for_one},
      Koma.Dashboard,
      {Koma.Provenance.Verifier, options},
      {Drainer, options}
    ]

    children = if :gateway in options.roles, do: listening(children, options), else: children
    Supervisor.init(children, strategy: :one_for_one)
  end

  # Before the drainer, which is stopped first.
  defp listening(children, options),
    do: List.insert_at(children, -2, {Listener, {options, Routes.dispatch()}})
end
