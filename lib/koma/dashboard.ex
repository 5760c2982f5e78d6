defmodule Koma.Dashboard do
  @moduledoc """
  The operators' page at `/dashboard`: what it shows is read by `Koma.Dashboard.Sampler` while somebody looks;
  what has to be kept for it, by `History` (the last 15 minutes) and `Errors` (the latest ones). What other peers do, `Peers` asks them.
  """
  use Supervisor

  alias Koma.Dashboard.{Errors, History, Peers, Sampler}

  @doc "Starts what the dashboard needs."
  @spec start_link(term) :: Supervisor.on_start()
  def start_link(_options), do: Supervisor.start_link(__MODULE__, nil, name: __MODULE__)

  @impl Supervisor
  def init(nil), do: Supervisor.init([Errors, History, Peers, Sampler], strategy: :one_for_one)
end
