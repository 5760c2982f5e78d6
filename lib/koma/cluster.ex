defmodule Koma.Cluster do
  @moduledoc """
  Who is there: several peers that serve as one, see docs/cluster.md. Without `node` in the options
  there is no cluster, nothing of this runs, and every question is answered at once. Which of the
  peers has a job, and what is asked of it there, is the business of `Koma.Remote`.

      Koma.Cluster (rest_for_one)
      ├── :pg, Tasks
      ├── what `Koma.Remote` runs    attempts of jobs of other peers; followers of jobs elsewhere
      ├── Peers             who is there, and what their model nodes offer
      └── Membership        connects, and connects again
  """
  use Supervisor

  alias Koma.Cluster.{Distribution, Membership, Owner, Peers}
  alias Koma.{ModelNode, Options}

  @answer_ms 5_000

  @typedoc """
  What is given from above: `children` run before the other peers are told that this one is there, and
  `offered` is told of the slots of their model nodes.
  """
  @type above :: %{children: [Supervisor.child_spec()], offered: Peers.listener()}

  @doc "Becomes a peer: starts the distribution, then what keeps the cluster together."
  @spec start_link({Options.t(), above}) :: Supervisor.on_start()
  def start_link({%Options{} = options, above}) do
    Distribution.start!(options)
    :persistent_term.put(__MODULE__, true)
    Supervisor.start_link(__MODULE__, {options, above}, name: __MODULE__)
  end

  @impl Supervisor
  def init({options, above}) do
    first = [
      %{id: :pg, start: {:pg, :start_link, [Koma.Cluster.Groups]}},
      {Task.Supervisor, name: Koma.Cluster.Tasks}
    ]

    last = [{Peers, {options, above.offered}}, {Membership, options}]
    Supervisor.init(first ++ above.children ++ last, strategy: :rest_for_one)
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

  @doc "The name under which each peer takes jobs that others place on its model nodes."
  @spec host() :: atom
  def host, do: Koma.Cluster.Host
end
