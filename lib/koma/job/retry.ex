defmodule Koma.Job.Retry do
  @moduledoc """
  What becomes of a job whose model node, or whose whole peer, died under it. Pure.

  Nobody can tell which of the jobs in a model node killed it, so all are run again. A job that
  lost its model node twice (or may be run only once more) runs alone: it is the only one on its
  model node. If that dies as well, the job is to blame, and fails as `poison_job` when its attempts are
  used up. With peers it is the same, but for the whole peer: a job that lost one of them among the two has the next
  one to itself. So a job that did no harm never fails for having run beside one that did.
  """

  alias Koma.Error
  alias Koma.Job.Record

  @shared_losses 2
  @deaths ~w(node_crashed node_hung peer_lost)

  @doc "Whether a job that lost so many model nodes runs alone."
  @spec alone?(losses :: non_neg_integer, max_attempts :: pos_integer) :: boolean
  def alone?(losses, max_attempts) do
    losses > 0 and losses >= min(@shared_losses, max_attempts - 1)
  end

  @doc "The class in which a job waits."
  @spec class(Record.t(), pos_integer) :: Koma.Queue.Ticket.class()
  def class(%Record{} = record, max_attempts) do
    cond do
      alone?(record.losses, max_attempts) -> kept_from_others(record)
      record.attempt > 0 -> :again
      true -> String.to_existing_atom(record.priority)
    end
  end

  defp kept_from_others(%Record{peer_losses: 0}), do: :alone
  defp kept_from_others(%Record{}), do: :apart

  @doc "The class in which a job waits that had its turn, and whose slot somebody else got."
  @spec refused(Record.t(), pos_integer) :: Koma.Queue.Ticket.class()
  def refused(%Record{} = record, max_attempts) do
    if alone?(record.losses, max_attempts), do: kept_from_others(record), else: :again
  end

  @doc """
  What became of an attempt when the process that ran it cannot be reached any more. Nobody can tell whether a peer died,
  and of what, or the way to it.
  """
  @spec unreachable(model_node :: String.t(), peer :: node | nil) :: Error.t()
  def unreachable(node, nil) do
    Error.new("node_crashed", "The process of #{node} in the gateway died")
  end

  def unreachable(node, peer) do
    Error.new("peer_lost", "The peer #{peer} of #{node} is gone, or the way to it")
  end

  @doc """
  What became of an attempt that runs according to the store, and that no process of this gateway knows. It costs
  the job nothing if the gateway did it (`here?`), and nothing if the job ran on another peer.
  """
  @spec interrupted(Record.t(), here? :: boolean) :: Error.t()
  def interrupted(%Record{node: node}, here?) do
    if here? or String.contains?(node || "", "@"),
      do: stopped(),
      else: Error.new("peer_lost", "The gateway died while the job ran on its #{node}")
  end

  @doc "What became of an attempt that runs while the gateway stops: it costs the job nothing."
  @spec stopped() :: Error.t()
  def stopped,
    do: Error.new("unavailable", "The gateway stopped while the job ran; it is run again")

  @doc "What the event `retrying` says of an attempt."
  @spec told(attempt :: non_neg_integer, Error.t()) :: map
  def told(attempt, %Error{code: code, message: message}),
    do: %{"attempt" => attempt, "code" => code, "message" => message}

  @doc "An attempt was lost: whether the job is run again, and what it is told."
  @spec lost(Record.t(), Error.t(), pos_integer) :: {:again | :failed, Error.t()}
  def lost(%Record{losses: losses} = record, %Error{} = error, max_attempts) do
    cond do
      Record.blameless?(error.code) ->
        {:again, error}

      losses + 1 < max_attempts or beside_others?(record, error, max_attempts) ->
        {:again, next_alone(record, error, max_attempts)}

      alone?(losses, max_attempts) and error.code in @deaths ->
        message = "The job killed its #{victim(error)} even when it ran alone: #{error.message}"
        {:failed, Error.new("poison_job", message)}

      true ->
        {:failed, error}
    end
  end

  # On its last attempt it had a model node to itself, and others of that peer may have brought it down.
  defp beside_others?(record, %Error{code: "peer_lost"}, max_attempts),
    do: not alone?(record.losses, max_attempts) or record.peer_losses == 0

  defp beside_others?(_record, _error, _max_attempts), do: false

  defp next_alone(record, error, max_attempts) do
    if not alone?(record.losses, max_attempts) and alone?(record.losses + 1, max_attempts),
      do: %{error | message: error.message <> "; next it runs alone"},
      else: error
  end

  defp victim(%Error{code: "peer_lost"}), do: "peer"
  defp victim(_of_a_model_node), do: "model node"
end
