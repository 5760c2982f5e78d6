defmodule Koma.Transfer do
  @moduledoc """
  Artifacts between peers: streamed from the disk of one to the disk of the other, in chunks of
  256 KiB of which at most four are under way, verified by SHA-256 at the end.

  Chunks are messages of the distribution, not HTTP beside it: so they need no second port, no second
  secret and no second TLS, and a peer that may connect is a peer that may fetch. What speaks against it, that a
  large message holds up the ticks, does not hold for bounded ones: the distribution cuts them into
  pieces of 64 KiB between which other messages go, and the receiver asks for each chunk, so a
  slow disk or reader never fills the connection.
  """

  require Logger

  alias Koma.{Cluster, Error, Options, Shown, Telemetry}
  alias Koma.Store.{Artifacts, Owners}

  @chunk 256 * 1024
  @window 4
  # Without a chunk for so long, the other side is given up.
  @silence_ms 15_000
  @question_ms 2_000

  @doc """
  The artifact, which is fetched if it is not here: from `first`, or from any other peer that has it.
  Error `artifact_not_found` when none has, or those of the store.
  """
  @spec ensure(id :: String.t(), first :: node | nil) ::
          {:ok, Artifacts.artifact()} | {:error, Error.t()}
  def ensure(id, first \\ nil) do
    with {:error, %{code: "artifact_not_found"}} <- Artifacts.renew(id, nil) do
      fetch(id, List.wrap(first), nil)
    end
  end

  @doc "As `ensure/2`, for an API key: it gets what it may see on some peer, and may then see it here."
  @spec find(id :: String.t(), Owners.key()) :: {:ok, Artifacts.artifact()} | {:error, Error.t()}
  def find(id, key) do
    with {:error, %{code: "artifact_not_found"} = missing} <- Artifacts.renew(id, key) do
      if well_formed?(id), do: fetch(id, [], key), else: {:error, missing}
    end
  end

  @doc """
  Has the peer `owner` fetch an artifact from this one, unless it has it. It gives up when nothing
  comes any more, so this ends, however large the artifact is.
  """
  @spec hand_over(id :: String.t(), owner :: node) :: :ok | {:error, Error.t()}
  def hand_over(id, owner) do
    case :erpc.call(owner, __MODULE__, :ensure, [id, node()], :infinity) do
      {:ok, _artifact} -> :ok
      {:error, error} -> {:error, error}
    end
  catch
    :error, {:erpc, reason} ->
      {:error, Error.new("timeout", "#{owner} is gone (#{reason})", value: id)}
  end

  @doc """
  Has one other peer keep a copy of the inputs of a job, so that a gateway that adopts it finds them. Where there is
  nobody who could adopt it, and while no other peer is there, nothing happens.
  """
  @spec copy_inputs(artifacts :: [String.t()]) :: :ok
  def copy_inputs([]), do: :ok

  def copy_inputs(artifacts) do
    if Cluster.on?() and Options.get().redis != nil,
      do: Enum.each(artifacts, &copy(&1, keepers())),
      else: :ok
  end

  # The same artifact always goes to the same peer, gateways first.
  defp keepers, do: Enum.uniq(Enum.sort(Cluster.gateways()) ++ Enum.sort(Cluster.peers()))

  defp copy(_artifact, []), do: :ok

  defp copy(artifact, [keeper | others]) do
    with {:error, error} <- hand_over(artifact, keeper) do
      Logger.warning("#{keeper} cannot keep a copy of #{artifact}: #{error.message}")
      copy(artifact, others)
    end
  end

  defp well_formed?(id), do: id =~ ~r/\A[0-9a-f]{64}\z/

  # The peer that should have it first, without a question; then whoever says that it has it.
  defp fetch(id, first, key) do
    missing =
      {:error, Error.new("artifact_not_found", "No peer has the artifact #{id}", value: id)}

    case try_each(first, id, key, missing) do
      {:error, %{code: code}} when code in ["artifact_not_found", "timeout"] ->
        (Cluster.peers() -- first) |> holders(id, key) |> try_each(id, key, missing)

      answer ->
        answer
    end
  end

  defp try_each(peers, id, key, missing) do
    Enum.reduce_while(peers, missing, fn peer, _last ->
      case stream(peer, id, key) do
        {:ok, artifact} -> {:halt, {:ok, artifact}}
        {:error, error} -> {:cont, {:error, error}}
      end
    end)
  end

  defp holders(peers, id, key) do
    answers = :erpc.multicall(peers, Artifacts, :renew, [id, key], @question_ms)
    for {peer, {:ok, {:ok, _artifact}}} <- Enum.zip(peers, answers), do: peer
  end

  # --- the side that gets

  defp stream(peer, id, key) do
    ref = make_ref()
    {source, monitor} = Node.spawn_monitor(peer, __MODULE__, :serve, [self(), ref, id])
    transfer = %{ref: ref, source: source, monitor: monitor, peer: peer, id: id}

    result =
      receive do
        {^ref, :head, media_type} ->
          store(transfer, media_type, key)

        {^ref, :missing} ->
          {:error, Error.new("artifact_not_found", "#{peer} has no #{id}", value: id)}

        {:DOWN, ^monitor, :process, _pid, reason} ->
          {:error, broken(transfer, reason)}
      after
        @silence_ms -> {:error, broken(transfer, :silent)}
      end

    Process.exit(source, :kill)
    Process.demonitor(monitor, [:flush])
    result
  end

  defp store(transfer, media_type, key) do
    with {:ok, writer} <- Artifacts.open(media_type, key) do
      for _ <- 1..@window, do: send(transfer.source, {transfer.ref, :more})

      case chunks(transfer, writer) do
        {:ok, writer} ->
          committed(transfer, writer)

        {:error, error} ->
          :ok = Artifacts.abort(writer)
          {:error, error}
      end
    end
  end

  defp committed(transfer, writer) do
    with {:ok, artifact, _new} <- Artifacts.commit(writer, transfer.id) do
      about = %{id: transfer.id, peer: transfer.peer}
      Telemetry.execute([:koma, :cluster, :fetched], %{bytes: artifact.bytes}, about)
      {:ok, artifact}
    end
  end

  defp chunks(%{ref: ref, monitor: monitor} = transfer, writer) do
    receive do
      {^ref, :chunk, bytes} ->
        with {:ok, writer} <- Artifacts.write(writer, bytes) do
          send(transfer.source, {ref, :more})
          chunks(transfer, writer)
        end

      {^ref, :end} ->
        {:ok, writer}

      {:DOWN, ^monitor, :process, _pid, reason} ->
        {:error, broken(transfer, reason)}
    after
      @silence_ms -> {:error, broken(transfer, :silent)}
    end
  end

  defp broken(%{peer: peer, id: id}, reason) do
    Error.new("timeout", "The transfer of #{id} from #{peer} broke off: #{Shown.reason(reason)}",
      value: id
    )
  end

  # --- the side that has

  @doc "Runs there: sends an artifact to `receiver`, a chunk for each that it asks for."
  @spec serve(receiver :: pid, reference, id :: String.t()) :: :ok
  def serve(receiver, ref, id) do
    Process.monitor(receiver)

    with {:ok, artifact} <- Artifacts.renew(id, nil),
         {:ok, file} <- :file.open(artifact.path, [:read, :raw, :binary]) do
      send(receiver, {ref, :head, artifact.media_type})
      read(file, receiver, ref)
    else
      {:error, _reason} -> send(receiver, {ref, :missing})
    end

    :ok
  end

  defp read(file, receiver, ref) do
    receive do
      {^ref, :more} ->
        case :file.read(file, @chunk) do
          {:ok, bytes} ->
            send(receiver, {ref, :chunk, bytes})
            read(file, receiver, ref)

          :eof ->
            send(receiver, {ref, :end})
        end

      {:DOWN, _ref, :process, ^receiver, _reason} ->
        :ok
    after
      4 * @silence_ms -> :ok
    end
  end
end
