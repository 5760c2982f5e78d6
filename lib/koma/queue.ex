defmodule Koma.Queue do
  @moduledoc "The queues, one per family: admission, order, position and estimated wait."
  use Supervisor

  alias Koma.{Access, Error, Options, Shown, Telemetry}
  alias Koma.Queue.{Cost, Refusals, Server, Ticket}

  @registry Koma.Queue.Registry

  @doc """
  Starts one queue for each family that the options name. One more begins with the first job
  of a family that only other peers serve, or that a stored job names (`ensure/1`).
  """
  @spec start_link(Options.t()) :: Supervisor.on_start()
  def start_link(%Options{} = options) do
    Supervisor.start_link(__MODULE__, options, name: __MODULE__)
  end

  @typedoc "`position`, `wait_ms` (estimated, or nil) and, while nobody's turn comes, `paused`."
  @type place :: %{String.t() => pos_integer | nil | true}

  @doc """
  Promises a place to a job that the calling process is about to store: `overloaded` with
  `retry_after_ms` when all places are taken or too much work waits, `draining` during a stop.
  The promise ends when the job enqueues itself or the calling process dies.
  """
  @spec admit(family :: String.t(), Ticket.t()) :: :ok | {:error, Error.t()}
  def admit(family, ticket) do
    Telemetry.span(:queue, fn -> family |> ask(ticket) |> count_refusal(family) end)
  end

  defp ask(family, ticket) do
    with :unknown <- Refusals.fetch(family, ticket.key) do
      :ok = ensure(family)
      call(family, {:admit, ticket})
    end
  end

  defp count_refusal(answer, family) do
    with {:error, %{code: "overloaded"}} <- answer do
      metadata = %{model: family, code: "overloaded"}
      Telemetry.execute([:koma, :queue, :refused], %{count: 1}, metadata)
      answer
    end
  end

  @doc """
  Lets the calling job process wait. When its turn has come it gets `{:dispatch, lease}` with a
  `Koma.Scheduler.Lease`. Returns its place, as the event `queued` tells it; while it waits it
  gets `{:place, place}` when that changed (`Koma.Queue.News`).
  """
  @spec enqueue(String.t(), Ticket.t()) :: place
  def enqueue(family, ticket) do
    Telemetry.span(:queue, fn -> call(family, {:enqueue, ticket}) end)
  end

  @doc "A job of this work held a slot for so many ms: later estimates get better."
  @spec measured(String.t(), Cost.work(), non_neg_integer) :: :ok
  def measured(family, work, ms), do: GenServer.cast(name(family), {:measured, work, ms})

  @doc """
  Has a queue for the family. Where no model node serves it, its jobs wait for one, for their deadline
  or for somebody who cancels them.
  """
  @spec ensure(family :: String.t()) :: :ok
  def ensure(family) do
    if Registry.lookup(@registry, family) == [],
      do: start_queue(family),
      else: :ok
  end

  defp start_queue(family) do
    case Supervisor.start_child(__MODULE__, queue(family, Options.get())) do
      {:ok, _pid} -> :ok
      {:error, {:already_started, _pid}} -> :ok
      {:error, :already_present} -> :ok
    end
  end

  @doc "Takes a job or a promise out; when this returns, no `:dispatch` for it is sent any more."
  @spec leave(String.t(), String.t()) :: :ok
  def leave(family, id), do: call(family, {:leave, id})

  @doc "1 for the job whose turn is next; nil for one that does not wait."
  @spec position(String.t(), String.t()) :: pos_integer | nil
  def position(family, id), do: call(family, {:position, id})

  @doc """
  How many jobs wait, in all and by API key, how long the one has waited that joined first (0 for
  nobody), and whether the queue is paused. Exits like `GenServer.call/3` when the queue does not
  answer within `timeout_ms`.
  """
  @spec depth(String.t(), timeout_ms :: pos_integer) :: %{
          jobs: non_neg_integer,
          oldest_ms: non_neg_integer,
          paused: boolean,
          keys: %{Ticket.key() => pos_integer}
        }
  def depth(family, timeout_ms), do: GenServer.call(name(family), :depth, timeout_ms)

  @doc """
  Pauses a queue (`true`), or lets it go on: jobs are accepted and wait, those that run go on. Holds
  across restarts. Errors: `not_found`, `storage_full`.
  """
  @spec pause(family :: String.t(), boolean) :: :ok | {:error, Error.t()}
  def pause(family, paused) do
    if family in families(), do: call(family, {:pause, paused}), else: {:error, unknown(family)}
  end

  defp unknown(family) do
    message = "There is no queue of #{Shown.text(family)}"
    details = [field: "family", value: family, bound: Enum.sort(families())]
    Error.new("not_found", message, details)
  end

  @doc "Refuses new jobs and starts none (`true`), or goes on (`false`)."
  @spec drain(boolean) :: :ok
  def drain(draining) do
    for family <- families(), do: call(family, {:drain, draining})
    :ok
  end

  @doc "The API keys have other weights from now on; whoever waits keeps their place."
  @spec weigh(%{String.t() => pos_integer}) :: :ok
  def weigh(weights) do
    for family <- families(), do: GenServer.cast(name(family), {:weigh, weights})
    :ok
  rescue
    # While the core starts again: queues take the weights at their start.
    ArgumentError -> :ok
  end

  @doc "The families that have a queue."
  @spec families() :: [String.t()]
  def families, do: Registry.select(@registry, [{{:"$1", :_, :_}, [], [:"$1"]}])

  defp call(family, request), do: GenServer.call(name(family), request, :infinity)
  defp name(family), do: {:via, Registry, {@registry, family}}

  @impl Supervisor
  def init(options) do
    :ok = Refusals.create()

    queues =
      for family <- options.models |> Enum.map(& &1.family) |> Enum.uniq(),
          do: queue(family, options)

    # A queue that dies has lost who waits; all of Work behind it starts again from the store.
    children = [{Registry, keys: :unique, name: @registry} | queues]
    Supervisor.init(children, strategy: :one_for_all, max_restarts: 0)
  end

  defp queue(family, options) do
    arguments = [family: family, name: name(family)] ++ bounds(options)
    Supervisor.child_spec({Server, arguments}, id: {Server, family})
  end

  defp bounds(options) do
    [
      limit: options.queue_limit,
      budget_ms: options.queue_budget_ms,
      weights: Access.weights(),
      update_ms: options.queue_update_ms
    ]
  end
end
