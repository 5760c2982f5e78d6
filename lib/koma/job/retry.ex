defmodule Koma.Job.Retry do
  @moduledoc """
  What becomes of a job whose model node died under it. Pure.

  Nobody can tell which of the jobs in a model node killed it, so all are run again. A job that
  lost its model node twice (or may be run only once more) runs alone: it is the only one on its
  model node. If that dies as well, the job is to blame, and fails as `poison_job` when its attempts are
  used up. So a job that did no harm never fails for having run beside one that did.
  """

  alias Koma.Error
  alias Koma.Job.Record
  alias Koma.Scheduler.Lease

  @shared_losses 2
  @deaths ~w(node_crashed node_hung)

  @doc "Whether a job that lost so many model nodes runs alone."
  @spec alone?(losses :: non_neg_integer, max_attempts :: pos_integer) :: boolean
  def alone?(losses, max_attempts) do
    losses > 0 and losses >= min(@shared_losses, max_attempts - 1)
  end

  @doc "The class in which a job waits."
  @spec class(Record.t(), pos_integer) :: Koma.Queue.Ticket.class()
  def class(%Record{} = record, max_attempts) do
    cond do
      alone?(record.losses, max_attempts) -> :alone
      record.attempt > 0 -> :again
      true -> String.to_existing_atom(record.priority)
    end
  end

  @doc "The class in which a job waits that had its turn, and whose slot somebody else got."
  @spec refused(Record.t(), pos_integer) :: Koma.Queue.Ticket.class()
  def refused(%Record{} = record, max_attempts) do
    if alone?(record.losses, max_attempts), do: :alone, else: :again
  end

  @doc """
  What became of an attempt when the process that ran it cannot be reached any more. For the loss of a
  peer, or of the way to it, a job is not to blame: jobs run in processes of their own there.
  """
  @spec unreachable(Lease.t()) :: Error.t()
  def unreachable(%Lease{peer: nil, node: node}) do
    Error.new("node_crashed", "The process of #{node} in the gateway died")
  end

  def unreachable(%Lease{peer: peer, node: node}) do
    Error.new("unavailable", "The peer #{peer} of #{node} is gone, or the way to it")
  end

  @doc "What is told of an attempt that ran when the gateway stopped: it costs the job nothing."
  @spec stopped(Record.t()) :: map
  def stopped(%Record{attempt: attempt}) do
    %{
      "attempt" => attempt,
      "code" => "unavailable",
      "message" => "The gateway stopped while the job ran; it is run again"
    }
  end

  @doc "An attempt was lost: whether the job is run again, and what it is told."
  @spec lost(Record.t(), Error.t(), pos_integer) :: {:again | :failed, Error.t()}
  def lost(%Record{losses: losses}, %Error{} = error, max_attempts) do
    was_alone? = alone?(losses, max_attempts)

    cond do
      Record.blameless?(error.code) ->
        {:again, error}

      losses + 1 >= max_attempts and was_alone? and error.code in @deaths ->
        message = "The job killed its model node even when it ran alone: #{error.message}"
        {:failed, Error.new("poison_job", message)}

      losses + 1 >= max_attempts ->
        {:failed, error}

      not was_alone? and alone?(losses + 1, max_attempts) ->
        {:again, %{error | message: error.message <> "; next it runs alone"}}

      true ->
        {:again, error}
    end
  end
end
