defmodule Koma.Pipeline.Supervisor do
  @moduledoc """
  The processes of live pipelines and their names. At start, stored pipelines that have not ended go on.
  """

  use Supervisor

  require Logger

  alias Koma.Pipeline.{Files, Record, Server, Sizes}

  @registry Koma.Pipeline.Registry
  @servers Koma.Pipeline.Servers

  # Pipelines fail together when the core restarts under them; that must not end their supervisor.
  @max_restarts 1_000
  @max_seconds 5

  @doc "Starts it."
  @spec start_link(Koma.Options.t()) :: Supervisor.on_start()
  def start_link(options), do: Supervisor.start_link(__MODULE__, options, name: __MODULE__)

  @doc "Starts the process of a stored pipeline; `submitter` is the process that wants it, if it is known."
  @spec start(String.t(), submitter :: pid | nil) :: :ok
  def start(id, submitter) do
    case DynamicSupervisor.start_child(@servers, {Server, {id, submitter}}) do
      {:ok, _pid} -> :ok
      # Ended, or started by somebody else.
      :ignore -> :ok
      {:error, {:already_started, _pid}} -> :ok
    end
  end

  @doc "The process of a live pipeline."
  @spec whereis(String.t()) :: pid | nil
  def whereis(id), do: GenServer.whereis({:via, Registry, {@registry, id}})

  @doc "The ids of the live pipelines."
  @spec live() :: [String.t()]
  def live, do: Registry.select(@registry, [{{:"$1", :_, :_}, [], [:"$1"]}])

  @impl true
  def init(options) do
    limits = [max_restarts: @max_restarts, max_seconds: @max_seconds]

    :ok = Files.prepare()
    :ok = Sizes.open()
    # Counted before the first request comes, so that no key has more than it may.
    unfinished = restore()

    children = [
      {Registry, keys: :unique, name: @registry},
      {DynamicSupervisor, [name: @servers, strategy: :one_for_one] ++ limits},
      Supervisor.child_spec({Task, fn -> recover(unfinished, options.retention_jobs) end},
        restart: :transient
      )
    ]

    Supervisor.init(children, strategy: :one_for_all)
  end

  defp restore do
    for id <- Files.set_aside_unreadable(),
        {:ok, record, _events} <- [Files.read(id)],
        live? = not Record.ended?(record),
        :ok = Sizes.restore(id, record.key, Files.bytes(id), live?),
        live?,
        do: id
  end

  # One that ended since has nothing left to do.
  defp recover(unfinished, keep) do
    if unfinished != [], do: Logger.info("#{length(unfinished)} stored pipelines go on")
    Enum.each(unfinished, &start(&1, nil))
    Files.prune(keep, MapSet.new(unfinished))
  end
end
