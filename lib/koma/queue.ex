defmodule Koma.Queue do
  @moduledoc "The queues, one per family: admission, order, position and estimated wait."
  use Supervisor

  alias Koma.{Error, Options}
  alias Koma.Queue.{Line, Server}

  @registry Koma.Queue.Registry

  @doc "Starts one queue for each family that the options name."
  @spec start_link(Options.t()) :: Supervisor.on_start()
  def start_link(%Options{} = options) do
    Supervisor.start_link(__MODULE__, options, name: __MODULE__)
  end

  @doc """
  Promises a place to a job that the calling process is about to store: `overloaded` with
  `retry_after_ms` when all places are taken, `draining` during a stop. The promise ends when the
  job enqueues itself or the calling process dies.
  """
  @spec admit(family :: String.t(), id :: String.t()) :: :ok | {:error, Error.t()}
  def admit(family, id), do: call(family, {:admit, id})

  @doc """
  Lets the calling job process wait. When its turn has come it gets `{:dispatch, lease}` with a
  `Koma.Scheduler.Lease`. Returns its position and the estimated wait.
  """
  @spec enqueue(String.t(), String.t(), Line.class()) :: {pos_integer, non_neg_integer | nil}
  def enqueue(family, id, class), do: call(family, {:enqueue, id, class})

  @doc "Takes a job or a promise out; when this returns, no `:dispatch` for it is sent any more."
  @spec leave(String.t(), String.t()) :: :ok
  def leave(family, id), do: call(family, {:leave, id})

  @doc "1 for the job whose turn is next; nil for one that does not wait."
  @spec position(String.t(), String.t()) :: pos_integer | nil
  def position(family, id), do: call(family, {:position, id})

  @doc "Refuses new jobs and starts none (`true`), or goes on (`false`)."
  @spec drain(boolean) :: :ok
  def drain(draining) do
    for family <- families(), do: call(family, {:drain, draining})
    :ok
  end

  @doc "The families that have a queue."
  @spec families() :: [String.t()]
  def families, do: Registry.select(@registry, [{{:"$1", :_, :_}, [], [:"$1"]}])

  defp call(family, request), do: GenServer.call(name(family), request, :infinity)
  defp name(family), do: {:via, Registry, {@registry, family}}

  @impl Supervisor
  def init(options) do
    queues =
      for family <- options.models |> Enum.map(& &1.family) |> Enum.uniq() do
        arguments = [family: family, limit: options.queue_limit, name: name(family)]
        Supervisor.child_spec({Server, arguments}, id: {Server, family})
      end

    # A queue that dies has lost who waits; all of Work behind it starts again from the store.
    children = [{Registry, keys: :unique, name: @registry} | queues]
    Supervisor.init(children, strategy: :one_for_all, max_restarts: 0)
  end
end
