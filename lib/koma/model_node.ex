defmodule Koma.ModelNode do
  @moduledoc """
  Model nodes: supervised Python processes that serve one model family each.

  A job process that submits to one gets, until the attempt ends,
  `{:model_node, id, attempt, message}` with `message` one of the structs of
  `Koma.Wire.Messages` that carry an id, or `{:lost, %Koma.Error{}}` when the model node died.
  """
  use Supervisor

  alias Koma.{Error, Options, Provenance, Shown}
  alias Koma.ModelNode.{Catalogue, Counts, Order, Server, Spec}
  alias Koma.Wire.Messages.Submit

  @registry Koma.ModelNode.Registry
  # Who types does not wait for longer.
  @count_ms 2_000

  @doc "Starts the model nodes that the options name."
  @spec start_link(Options.t()) :: Supervisor.on_start()
  def start_link(%Options{} = options) do
    Supervisor.start_link(__MODULE__, options, name: __MODULE__)
  end

  @doc "Runs a job for the calling process, which must hold a lease on the model node."
  @spec submit(pid, Submit.t()) :: :ok
  def submit(node, %Submit{} = submit), do: GenServer.cast(node, {:submit, submit, self()})

  @doc "Stops a job; nothing more is sent about it. Its slot is free once Python has let go."
  @spec cancel(pid, id :: String.t()) :: :ok
  def cancel(node, id), do: GenServer.cast(node, {:cancel, id})

  @doc """
  Asks a model node of a family on this peer how much of the prompts in `params` it would read: name of the
  prompt to `tokens`, `read`, `unknown`, `limit` and perhaps `notice`. It answers beside its jobs.

  Error: `unavailable` while none is ready, or where none answers soon.
  """
  @spec count(family :: String.t(), task :: String.t(), params :: map) ::
          {:ok, %{String.t() => map}} | {:error, Error.t()}
  def count(family, task, params) do
    ready =
      for %{spec: %{family: ^family, name: name}, phase: :ready} <- Catalogue.rows(), do: name

    case ready do
      [] ->
        Counts.refused("of this task is not ready on this server")

      names ->
        names |> Enum.random() |> via() |> GenServer.call({:count, task, params}, @count_ms)
    end
  catch
    :exit, {reason, {GenServer, :call, _arguments}} when reason in [:timeout, :noproc] ->
      Counts.refused("does not answer")
  end

  @doc """
  Gives an operator's order to a model node; it is carried out once its running jobs are done. With
  `within_ms` a restart waits no longer than that for them; they are then run again elsewhere.

  Errors: `not_found`, and `conflict` when its state does not allow it.
  """
  @spec order(name :: String.t(), Order.t(), within_ms :: non_neg_integer | nil) ::
          :ok | {:error, Error.t()}
  def order(name, order, within_ms \\ nil) do
    if whereis(name),
      do: GenServer.call(via(name), {:order, order, within_ms}),
      else: {:error, unknown(name)}
  end

  defp unknown(name) do
    known = Enum.map(Catalogue.rows(), & &1.spec.name)
    message = "There is no model node #{Shown.text(name)}"
    Error.new("not_found", message, field: "node", value: name, bound: known)
  end

  @doc "Asks every model node to tell the scheduler again whether it is up."
  @spec announce_all() :: :ok
  def announce_all do
    for pid <- Registry.select(@registry, [{{:_, :"$1", :_}, [], [:"$1"]}]) do
      GenServer.cast(pid, :announce)
    end

    :ok
  end

  @doc "The process of a model node by name, e.g. `toy-1`."
  @spec whereis(String.t()) :: pid | nil
  def whereis(name), do: GenServer.whereis(via(name))

  @doc "The operating system's process id of a model node; nil while it is not running."
  @spec os_pid(String.t()) :: pos_integer | nil
  def os_pid(name), do: GenServer.call(via(name), :os_pid)

  defp via(name), do: {:via, Registry, {@registry, name}}

  @impl Supervisor
  def init(options) do
    :ok = Provenance.warn(options)

    nodes =
      for %Spec{} = spec <- options.models do
        arguments = [spec: spec, options: options, listener: Koma.Scheduler, name: via(spec.name)]
        Supervisor.child_spec({Server, arguments}, id: {Server, spec.name}, shutdown: 5_000)
      end

    # A server dies only of an error in the gateway; its Python process dying is its daily work.
    # So many deaths are allowed that one model node never takes the others down.
    flags = [strategy: :one_for_one, max_restarts: 1_000, max_seconds: 10]
    servers = %{id: :servers, type: :supervisor, start: {Supervisor, :start_link, [nodes, flags]}}
    children = [{Registry, keys: :unique, name: @registry}, {Catalogue, options.models}, servers]
    Supervisor.init(children, strategy: :rest_for_one)
  end
end
