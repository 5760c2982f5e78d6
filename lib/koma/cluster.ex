defmodule Koma.Cluster do
  @moduledoc """
  Several peers that serve as one: see docs/cluster.md. Without `node` in the options there is no
  cluster, nothing of this runs, and every question is answered at once.

      Koma.Cluster (rest_for_one)
      ├── :pg, Peers        who is there, and what their model nodes offer
      ├── Watches, Tasks, Visits, Host   attempts of jobs of other peers; followers of jobs elsewhere
      └── Membership        connects, and connects again
  """
  use Supervisor
  require Logger

  alias Koma.Cluster.{Distribution, Host, Membership, Owner, Peers, Transfer, Watch}
  alias Koma.{Caller, Error, ModelNode, Options, Scheduler, Store}

  @answer_ms 5_000

  @doc "Becomes a peer: starts the distribution, then what keeps the cluster together."
  @spec start_link(Options.t()) :: Supervisor.on_start()
  def start_link(%Options{} = options) do
    Distribution.start!(options)
    :persistent_term.put(__MODULE__, true)
    Supervisor.start_link(__MODULE__, options, name: __MODULE__)
  end

  @impl Supervisor
  def init(options) do
    children = [
      %{id: :pg, start: {:pg, :start_link, [Koma.Cluster.Groups]}},
      {Registry, keys: :unique, name: Koma.Cluster.Watches},
      {Task.Supervisor, name: Koma.Cluster.Tasks},
      {DynamicSupervisor, name: Koma.Cluster.Visits, strategy: :one_for_one},
      Host,
      {Peers, options},
      {Membership, options}
    ]

    Supervisor.init(children, strategy: :rest_for_one)
  end

  @doc "Whether this BEAM is a peer of a cluster."
  @spec on?() :: boolean
  def on?, do: :persistent_term.get(__MODULE__, false)

  @doc "The other peers that are connected and understood."
  @spec peers() :: [node]
  def peers, do: for({peer, _roles} <- connected(), do: peer)

  @doc "The other peers that there should be or that are there, by name, and whether each is connected."
  @spec known() :: [{node, connected? :: boolean}]
  def known do
    connected = peers()
    named = if on?(), do: Membership.known() -- [node()], else: []
    for peer <- Enum.sort(Enum.uniq(connected ++ named)), do: {peer, peer in connected}
  end

  @doc "The other peers that serve clients."
  @spec gateways() :: [node]
  def gateways, do: for({peer, roles} <- connected(), :gateway in roles, do: peer)

  defp connected, do: if(on?(), do: Peers.connected(), else: [])

  @doc "The families that a model node of some other peer serves, or will again."
  @spec families() :: [String.t()]
  def families, do: rows() |> Enum.map(& &1.spec.family) |> Enum.uniq()

  @doc "The rows of the model nodes of the other peers."
  @spec rows() :: [ModelNode.Catalogue.Row.t()]
  def rows, do: if(on?(), do: Peers.rows(), else: [])

  @doc "What the id of a new job or pipeline of this peer begins with, after its kind."
  @spec tag() :: String.t()
  def tag, do: if(on?(), do: Owner.tag(node()), else: "")

  @doc """
  The tags with which the id of a job may begin that this gateway can read: its own, and where there is a Redis
  those of the other gateways, too.
  """
  @spec tags() :: [String.t(), ...]
  def tags do
    others = if Options.get().redis != nil, do: gateways(), else: []
    [tag() | Enum.map(others, &Owner.tag/1)]
  end

  @doc """
  Where the process of a job or pipeline is: here, on a peer that is connected, or on one that is
  `:away`. What is nobody's is taken for ours: the store knows.

  The id tells (`Koma.Cluster.Owner`), without a question to anybody. Where jobs may be adopted, which needs
  a Redis, Redis tells; and while their gateway is away, too, they are read from there.
  """
  @spec owner(id :: String.t()) :: :here | {:peer, node} | {:away, node}
  def owner(id) do
    cond do
      not on?() or Koma.Job.Processes.whereis(id) != nil -> :here
      Options.get().redis != nil and job?(id) -> by_store(id)
      true -> by_tag(id)
    end
  end

  # Pipelines are never adopted.
  defp job?(id), do: String.starts_with?(id, "job_")

  defp by_store(id) do
    with {:ok, %{node: name}} <- Store.Jobs.owner(id),
         peer when peer != nil <- Enum.find(peers(), &(Atom.to_string(&1) == name)) do
      {:peer, peer}
    else
      _here_or_nobody -> :here
    end
  end

  defp by_tag(id) do
    case Owner.of(id, [node() | Membership.known()]) do
      nil -> :here
      peer when peer == node() -> :here
      peer -> if peer in peers(), do: {:peer, peer}, else: {:away, peer}
    end
  end

  @doc """
  Asks the owner of a job or pipeline: `here` is the answer if that is this peer, else
  `module.function(arguments)` is called there. Error `unavailable` while it cannot be reached.
  """
  @spec ask_owner(id :: String.t(), mfa :: {module, atom, [term]}, here :: (() -> answer)) ::
          answer | {:error, Error.t()}
        when answer: term
  def ask_owner(id, {module, function, arguments}, here) do
    case owner(id) do
      :here -> here.()
      {:peer, peer} -> call(id, peer, module, function, arguments)
      {:away, peer} -> {:error, away(id, peer)}
    end
  end

  defp call(id, peer, module, function, arguments) do
    :erpc.call(peer, module, function, arguments, @answer_ms)
  catch
    :error, {:erpc, _reason} -> {:error, away(id, peer)}
  end

  @doc """
  Asks all other gateways that keep jobs of their own: where there is a Redis, it has them all. Those that do not
  answer soon, or fail, are left out.
  """
  @spec ask_gateways({module, atom, [term]}) :: [term]
  def ask_gateways({module, function, arguments}) do
    asked = if on?() and Options.get().redis == nil, do: gateways(), else: []
    answers = :erpc.multicall(asked, module, function, arguments, @answer_ms)
    for {:ok, answer} <- answers, do: answer
  end

  @doc "Sends a message to the process of this name on all other gateways that are connected; waits for nobody."
  @spec tell_gateways(name :: atom, message :: term) :: :ok
  def tell_gateways(name, message), do: Enum.each(gateways(), &Peers.send({name, &1}, message))

  @doc """
  Has one other peer keep a copy of the inputs of a job, so that a gateway that adopts it finds them. Where there is
  nobody who could adopt it, and while no other peer is there, nothing happens.
  """
  @spec copy_inputs(artifacts :: [String.t()]) :: :ok
  def copy_inputs([]), do: :ok

  def copy_inputs(artifacts) do
    if on?() and Options.get().redis != nil,
      do: Enum.each(artifacts, &copy(&1, keepers())),
      else: :ok
  end

  # The same artifact always goes to the same peer, gateways first.
  defp keepers, do: Enum.uniq(Enum.sort(gateways()) ++ Enum.sort(peers()))

  defp copy(_artifact, []), do: :ok

  defp copy(artifact, [keeper | others]) do
    with {:error, error} <- Transfer.hand_over(artifact, keeper) do
      Logger.warning("#{keeper} cannot keep a copy of #{artifact}: #{error.message}")
      copy(artifact, others)
    end
  end

  @doc "Lets the calling process follow a job or pipeline, on whichever gateway it is."
  @spec follow(Watch.facade(), id :: String.t(), non_neg_integer, Caller.t(), (() -> answer)) ::
          answer | {:error, Error.t()}
        when answer: term
  def follow(facade, id, after_seq, caller, here) do
    case owner(id) do
      :here -> here.()
      {:peer, peer} -> Watch.subscribe(facade, peer, id, after_seq, caller)
      {:away, peer} -> {:error, away(id, peer)}
    end
  end

  @doc "Ends that, if it is followed elsewhere."
  @spec unfollow(String.t()) :: :ok
  def unfollow(id), do: if(on?(), do: Watch.unsubscribe(id), else: :ok)

  @doc "Waits until no attempt of another peer's job is here any more, or the time is up."
  @spec await_visits(timeout_ms :: non_neg_integer) :: :ok
  def await_visits(timeout_ms), do: if(on?(), do: Host.await_idle(timeout_ms), else: :ok)

  @doc "What is told of a job whose gateway cannot be asked."
  @spec away(id :: String.t(), node) :: Error.t()
  def away(id, peer) do
    message = "The gateway of #{id}, #{peer}, cannot be reached now; no accepted job is lost"
    Error.new("unavailable", message, value: id, retry_after_ms: 2_000)
  end

  @doc "Tells the scheduler of a peer that the slot of a job that it placed here is free."
  @spec slot_free(node, name :: String.t(), id :: String.t()) :: :ok
  def slot_free(peer, name, id) do
    message = {:slot_free, Peers.remote_name(name, node()), id}
    Peers.send({Scheduler, peer}, {:"$gen_cast", message})
  end
end
