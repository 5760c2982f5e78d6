defmodule Koma.Remote do
  @moduledoc """
  Jobs and pipelines that are elsewhere: which gateway has one, and what is asked of it there. Without a
  cluster everything is here, and every question is answered at once.

      below Koma.Cluster
      ├── Watches, Visits   followers of jobs of other gateways; attempts of their jobs on this peer
      └── Host              takes such attempts
  """

  alias Koma.Cluster.{Membership, Owner}
  alias Koma.{Caller, Cluster, Error, Options, Scheduler, Store}
  alias Koma.Remote.{Host, Watch}

  @answer_ms 5_000

  @doc "What `Koma.Cluster` is given from above."
  @spec above() :: Cluster.above()
  def above, do: %{children: children(), offered: &Scheduler.offered/3}

  defp children do
    [
      {Registry, keys: :unique, name: Koma.Remote.Watches},
      {DynamicSupervisor, name: Koma.Remote.Visits, strategy: :one_for_one},
      Host
    ]
    |> Enum.map(&Supervisor.child_spec(&1, []))
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
      not Cluster.on?() or Koma.Job.Processes.whereis(id) != nil -> :here
      Options.get().redis != nil and job?(id) -> by_store(id)
      true -> by_tag(id)
    end
  end

  # Pipelines are never adopted.
  defp job?(id), do: String.starts_with?(id, "job_")

  defp by_store(id) do
    with {:ok, %{node: name}} <- Store.Jobs.owner(id),
         peer when peer != nil <- Enum.find(Cluster.peers(), &(Atom.to_string(&1) == name)) do
      {:peer, peer}
    else
      _here_or_nobody -> :here
    end
  end

  defp by_tag(id) do
    case Owner.of(id, [node() | Membership.known()]) do
      nil -> :here
      peer when peer == node() -> :here
      peer -> if peer in Cluster.peers(), do: {:peer, peer}, else: {:away, peer}
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

  @doc "The calling process follows it no longer, if it is followed elsewhere."
  @spec unfollow(String.t()) :: :ok
  def unfollow(id), do: if(Cluster.on?(), do: Watch.unsubscribe(id), else: :ok)

  @doc "Waits until no attempt of another peer's job is here any more, or the time is up."
  @spec await_visits(timeout_ms :: non_neg_integer) :: :ok
  def await_visits(timeout_ms), do: if(Cluster.on?(), do: Host.await_idle(timeout_ms), else: :ok)

  @doc "What is told of a job whose gateway cannot be asked."
  @spec away(id :: String.t(), node) :: Error.t()
  def away(id, peer) do
    message = "The gateway of #{id}, #{peer}, cannot be reached now; no accepted job is lost"
    Error.new("unavailable", message, value: id, retry_after_ms: 2_000)
  end
end
