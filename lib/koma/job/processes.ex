defmodule Koma.Job.Processes do
  @moduledoc "The processes of the live jobs: their supervisor, their names, their keeper."
  use Supervisor

  alias Koma.Job.{Keeper, Record, Server}

  @registry Koma.Job.Registry
  @supervisor Koma.Job.Supervisor

  @doc "Starts them; stored jobs that have not ended go on."
  @spec start_link(term) :: Supervisor.on_start()
  def start_link(_options), do: Supervisor.start_link(__MODULE__, nil, name: __MODULE__)

  @doc """
  The process of a stored job, started if need be: while the core starts again, the keeper may
  have found a job before the one who submitted it, `submitter`, got here.
  """
  @spec start(Record.t(), submitter :: pid | nil) :: pid
  def start(%Record{id: id} = record, submitter) do
    name = {:via, Registry, {@registry, id}}

    case DynamicSupervisor.start_child(@supervisor, {Server, {record, name, submitter}}) do
      {:ok, pid} -> pid
      {:error, {:already_started, pid}} -> pid
    end
  end

  @doc "The process of a live job."
  @spec whereis(String.t()) :: pid | nil
  def whereis(id) do
    case Registry.lookup(@registry, id) do
      [{pid, _value}] -> pid
      [] -> nil
    end
  end

  @doc "The processes of all live jobs."
  @spec all() :: [pid]
  def all, do: Registry.select(@registry, [{{:_, :"$1", :_}, [], [:"$1"]}])

  @impl Supervisor
  def init(nil) do
    children = [
      {Registry, keys: :unique, name: @registry},
      {DynamicSupervisor, name: @supervisor, strategy: :one_for_one},
      Keeper
    ]

    Supervisor.init(children, strategy: :one_for_all, max_restarts: 0)
  end
end
