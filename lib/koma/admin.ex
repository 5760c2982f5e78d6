defmodule Koma.Admin do
  @moduledoc """
  What operators may ask of the server, over HTTP, from the command line and on the dashboard. Who
  calls this has made sure that it is one (`Koma.Access.operator?/1`).
  """

  require Logger

  alias Koma.{Caller, Cluster, Error, LogLine, ModelNode, Queue, Store}
  alias Koma.ModelNode.{Catalogue, Order}

  @restart_within_ms 60_000
  @queue_ms 1_000
  @peer_ms 5_000
  @max_checkpoint 1_024

  @typedoc "A thing to do, and to what."
  @type action ::
          {:cancel, job :: String.t()}
          | {:order, node :: String.t(), Order.t()}
          | {:pause | :resume, queue :: String.t()}

  @doc """
  Does it; the log says who did. Errors: `not_found`, `conflict`, `storage_full`, `unavailable` while
  the core starts again.
  """
  @spec act(action, Caller.t()) :: :ok | {:error, Error.t()}
  def act(action, %Caller{} = operator) do
    result = Koma.ask(fn -> perform(action) end)

    Logger.info(
      "operator #{operator.key || "on this machine"}: #{LogLine.text(words(action))}: #{told(result)}"
    )

    result
  end

  defp perform({:cancel, id}) do
    case Store.Jobs.fetch(id) do
      # On behalf of whoever owns it.
      {:ok, record} -> Koma.Job.cancel(id, %Caller{key: record.key})
      _unknown -> Koma.Job.cancel(id, %Caller{})
    end
  end

  defp perform({:order, node, order}) do
    within_ms = if order == :restart, do: @restart_within_ms

    case peer(node) do
      nil -> ModelNode.order(node, order, within_ms)
      {name, peer} -> ask_peer(peer, ModelNode, :order, [name, order, within_ms])
    end
  end

  defp perform({:pause, queue}), do: pause(queue, true)
  defp perform({:resume, queue}), do: pause(queue, false)

  defp pause(queue, paused?) do
    case peer(queue) do
      nil -> Queue.pause(queue, paused?)
      {family, peer} -> ask_peer(peer, Queue, :pause, [family, paused?])
    end
  end

  # Model nodes and queues of other peers are called <name>@<peer>.
  defp peer(node) do
    with [name, peer] <- String.split(node, "@", parts: 2),
         peer when peer != nil <- Enum.find(Cluster.peers(), &(Atom.to_string(&1) == peer)) do
      {name, peer}
    else
      _of_this_peer -> nil
    end
  end

  defp ask_peer(peer, module, function, arguments) do
    :erpc.call(peer, module, function, arguments, @peer_ms)
  catch
    :error, {:erpc, reason} ->
      message = "The peer #{peer} does not answer (#{reason})"
      {:error, Error.new("unavailable", message, field: "node", value: "#{peer}")}
  end

  defp words({:order, node, {:load, checkpoint}}), do: "load #{checkpoint} into #{node}"
  defp words({:order, node, order}), do: "#{order} #{node}"
  defp words({:cancel, id}), do: "cancel #{id}"
  defp words({what, family}), do: "#{what} the queue of #{family}"

  defp told(:ok), do: "ok"
  defp told({:error, error}), do: error.code

  @doc "Whether a text may name a checkpoint; the model node says whether there is one."
  @spec check_checkpoint(String.t()) :: :ok | {:error, Error.t()}
  def check_checkpoint(name) do
    if String.length(name) in 1..@max_checkpoint do
      :ok
    else
      message = "A checkpoint has a name of 1 to #{@max_checkpoint} characters."
      details = [field: "checkpoint", value: name, bound: @max_checkpoint]
      {:error, Error.new("out_of_bounds", message, details)}
    end
  end

  @doc """
  The model nodes as operators see them: those of this peer, by name, then those of others, whose
  numbers are not known here.
  """
  @spec nodes() :: [map]
  def nodes, do: Koma.ask(fn -> Enum.map(Catalogue.rows() ++ Cluster.rows(), &entry/1) end, [])

  @doc "The model node of this name, as `nodes/0` shows it; `not_found` where there is none."
  @spec node_named(String.t()) :: {:ok, map} | {:error, Error.t()}
  def node_named(name) do
    case Enum.find(nodes(), &(&1["node"] == name)) do
      nil ->
        {:error,
         Error.new("not_found", "There is no such model node", field: "node", value: name)}

      node ->
        {:ok, node}
    end
  end

  @doc "The queues, by family."
  @spec queues() :: [map]
  def queues do
    Koma.ask(fn -> Queue.families() |> Enum.sort() |> Enum.flat_map(&queue/1) end, [])
  end

  defp queue(family) do
    depth = Queue.depth(family, @queue_ms)
    keys = for {key, jobs} <- depth.keys, do: %{"key" => key, "jobs" => jobs}

    [
      %{
        "family" => family,
        "jobs" => depth.jobs,
        "oldest_wait_ms" => depth.oldest_ms,
        "paused" => depth.paused,
        "keys" => Enum.sort_by(keys, &{-&1["jobs"], &1["key"]})
      }
    ]
  end

  defp entry(%Catalogue.Row{spec: spec} = row) do
    row.ready
    |> loaded()
    |> Map.merge(stats(row.stats))
    |> Map.merge(%{
      "node" => spec.name,
      "family" => spec.family,
      "checkpoint" => if(row.ready, do: spec.checkpoint),
      "slots" => spec.slots,
      "state" => Atom.to_string(row.phase),
      "order" => order(row.order),
      "last_error" => last_error(row.last_error)
    })
  end

  defp loaded(nil), do: %{"checkpoint_digest" => nil, "device" => nil, "dtype" => nil}

  defp loaded(ready) do
    %{
      "checkpoint_digest" => ready.checkpoint_digest,
      "device" => ready.device,
      "dtype" => ready.dtype
    }
  end

  defp stats(nil), do: %{"running" => nil, "last_batch" => nil, "memory_bytes" => nil}

  defp stats(stats) do
    %{
      "running" => stats.running,
      "last_batch" => stats.last_batch,
      "memory_bytes" => stats.memory_bytes
    }
  end

  defp order(nil), do: nil
  defp order({:load, checkpoint}), do: "load #{checkpoint}"
  defp order(order), do: Atom.to_string(order)

  defp last_error(nil), do: nil
  defp last_error({error, at}), do: error |> Error.to_map() |> Map.put("at", at)
end
