defmodule Koma.Job.Processes do
  @moduledoc """
  The processes of the live jobs: their supervisor, their names, their keeper. A process is a run
  (`Koma.Job.Server`) and has the names of all its jobs; by the fingerprint of their request it is
  found by jobs that may join.
  """
  use Supervisor

  alias Koma.Job.{Keeper, Record, Server}

  @registry Koma.Job.Registry
  @supervisor Koma.Job.Supervisor
  @runs Koma.Job.Runs

  @doc "Starts them; stored jobs that have not ended go on."
  @spec start_link(term) :: Supervisor.on_start()
  def start_link(_options), do: Supervisor.start_link(__MODULE__, nil, name: __MODULE__)

  @doc """
  The process of a stored job, started if need be: it joins a run of equal requests, or gets one of
  its own. (While the core starts again, the keeper may have found a job before the one who
  submitted it, `submitter`, got here.)
  """
  @spec start(Record.t(), submitter :: pid | nil) :: pid
  def start(%Record{} = record, submitter) do
    case alive(record.id) || join_run(record, submitter) do
      :none -> start_run(record, submitter, record.fingerprint != nil)
      :refused -> start_run(record, submitter, false)
      pid -> pid
    end
  end

  @doc "Whether there is a run that the job would join."
  @spec joinable?(Record.t()) :: boolean
  def joinable?(%Record{fingerprint: nil}), do: false

  def joinable?(%Record{fingerprint: fingerprint, priority: priority}) do
    case Registry.lookup(@runs, fingerprint) do
      [{_pid, of_run}] -> of_run == "interactive" or priority == "batch"
      [] -> false
    end
  end

  @doc "The calling run may be joined by equal requests; `:taken` if there is one already."
  @spec open(Record.t()) :: :ok | :taken
  def open(%Record{} = record) do
    case Registry.register(@runs, record.fingerprint, record.priority) do
      {:ok, _registry} -> :ok
      {:error, {:already_registered, _pid}} -> :taken
    end
  end

  @doc "Nobody joins the calling run any more."
  @spec close(Record.t()) :: :ok
  def close(%Record{fingerprint: fingerprint}), do: Registry.unregister(@runs, fingerprint)

  @doc "The calling run is the process of this job, too."
  @spec join(String.t()) :: :ok
  def join(id) do
    {:ok, _registry} = Registry.register(@registry, id, nil)
    :ok
  end

  @doc "It is no longer."
  @spec leave(String.t()) :: :ok
  def leave(id), do: Registry.unregister(@registry, id)

  @doc "As `whereis/1`, but never one that has died: its names are still there for a moment."
  @spec alive(String.t()) :: pid | nil
  def alive(id) do
    with pid when is_pid(pid) <- whereis(id), do: if(Process.alive?(pid), do: pid)
  end

  defp join_run(%Record{fingerprint: nil}, _submitter), do: :none

  defp join_run(%Record{} = record, submitter) do
    with [{pid, _priority}] <- Registry.lookup(@runs, record.fingerprint),
         :ok <- Server.join(pid, record, submitter) do
      pid
    else
      [] -> :none
      :refused -> :refused
    end
  catch
    # It ended at this moment.
    :exit, {_reason, {GenServer, :call, _arguments}} -> :none
  end

  defp start_run(%Record{id: id} = record, submitter, open?) do
    name = {:via, Registry, {@registry, id}}

    case DynamicSupervisor.start_child(
           @supervisor,
           {Server, {record, name, submitter, open: open?}}
         ) do
      {:ok, pid} -> pid
      {:error, {:already_started, pid}} -> pid
      # An equal request came first.
      :ignore -> start(record, submitter)
    end
  end

  @doc "The process of a live job."
  @spec whereis(String.t()) :: pid | nil
  def whereis(id), do: GenServer.whereis({:via, Registry, {@registry, id}})

  @doc "The live jobs by id, each with its process."
  @spec all() :: [{id :: String.t(), pid}]
  def all, do: Registry.select(@registry, [{{:"$1", :"$2", :_}, [], [{{:"$1", :"$2"}}]}])

  @impl Supervisor
  def init(nil) do
    children = [
      {Registry, keys: :unique, name: @registry},
      {Registry, keys: :unique, name: @runs},
      {DynamicSupervisor, name: @supervisor, strategy: :one_for_one},
      Keeper
    ]

    Supervisor.init(children, strategy: :one_for_all, max_restarts: 0)
  end
end
