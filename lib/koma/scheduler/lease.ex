defmodule Koma.Scheduler.Lease do
  @moduledoc """
  A slot of a model node, held by one job until that node says it is free again. One of another peer
  is reached through that peer's `Koma.Remote.Host`, which takes the same messages as a model node.
  """

  alias Koma.ModelNode
  alias Koma.Wire.Messages.Submit

  @enforce_keys [:node, :pid]
  defstruct [:node, :pid, :peer, mode: :shared]

  @type t :: %__MODULE__{
          node: String.t(),
          pid: pid | {atom, node},
          peer: node | nil,
          mode: Koma.Scheduler.mode()
        }

  @doc "Runs the job for the calling process."
  @spec submit(t, Submit.t()) :: :ok
  def submit(%__MODULE__{peer: nil, pid: pid}, submit), do: ModelNode.submit(pid, submit)

  def submit(%__MODULE__{pid: host} = lease, submit) do
    GenServer.cast(host, {:submit, local_name(lease), submit, self(), lease.mode})
  end

  @doc "Stops it; nothing more is sent about it."
  @spec cancel(t, id :: String.t()) :: :ok
  def cancel(%__MODULE__{peer: nil, pid: pid}, id), do: ModelNode.cancel(pid, id)
  def cancel(%__MODULE__{pid: host}, id), do: GenServer.cast(host, {:cancel, id, self()})

  defp local_name(%__MODULE__{node: name, peer: peer}), do: String.trim_trailing(name, "@#{peer}")
end
