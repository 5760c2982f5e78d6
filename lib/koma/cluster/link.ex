defmodule Koma.Cluster.Link do
  @moduledoc """
  Sends to one peer. Whoever sends into a connection that is full is suspended until there is room:
  that is this process, never a scheduler. It lives as long as the process that it sends to.
  """

  @type t :: pid

  @doc "Starts one to the process `to` of a peer; linked to the caller."
  @spec start_link(pid) :: t
  def start_link(to) do
    spawn_link(fn ->
      Process.monitor(to)
      loop(to)
    end)
  end

  @doc "Sends a message to a process of the peer: by pid, or by its registered name."
  @spec send(t, to :: pid | {atom, node}, message :: term) :: :ok
  def send(link, to, message) do
    Kernel.send(link, {:link, to, message})
    :ok
  end

  defp loop(to) do
    receive do
      {:link, receiver, message} ->
        Kernel.send(receiver, message)
        loop(to)

      {:DOWN, _ref, :process, ^to, _reason} ->
        :ok
    end
  end
end
