defmodule Koma.Remote.Visit do
  @moduledoc """
  One attempt of a job of another peer on a model node of this one. Towards the model node it is the
  job's process, towards the job's process it is the model node:

      slot ──▶ inputs ──▶ running ──▶ outputs ──▶ done

  First it gets a slot from the scheduler of this peer, which has the last word (`:refused`: the job
  waits again, at the front). Then it fetches the inputs that are missing here. Progress, tokens and
  previews are passed on as they come. Outputs are stored here, then the job's peer fetches them, and
  only then the job hears that it is done. Files never pass through this process: tasks move them.

  It ends with the job's process, or when the peers lose each other; the model node then stops the job.
  """
  use GenServer, restart: :temporary
  require Logger

  alias Koma.{Error, ModelNode, Scheduler, Shown, Store, Transfer}
  alias Koma.Job.{Attempt, Outputs}
  alias Koma.Wire.Messages.{Done, Failed, Submit}

  @enforce_keys [:name, :submit, :job, :mode]
  defstruct [:name, :submit, :job, :mode, :node, :ref, :task, phase: :slot]

  @doc "Starts the process of an attempt; `name` is the model node, `job` the job's process."
  @spec start(String.t(), Submit.t(), pid, Scheduler.mode()) :: DynamicSupervisor.on_start_child()
  def start(name, submit, job, mode) do
    visit = %__MODULE__{name: name, submit: submit, job: job, mode: mode}
    DynamicSupervisor.start_child(Koma.Remote.Visits, {__MODULE__, visit})
  end

  @doc false
  @spec start_link(%__MODULE__{}) :: GenServer.on_start()
  def start_link(visit), do: GenServer.start_link(__MODULE__, visit)

  @doc "The job wants no more of it."
  @spec cancel(pid) :: :ok
  def cancel(visit), do: GenServer.cast(visit, :cancel)

  @impl GenServer
  def init(%__MODULE__{submit: %{id: id} = submit} = state) do
    Logger.metadata(job: id)
    Process.monitor(state.job)
    # Two gateways may have had the job, each with an attempt of this number.
    own = "#{id}-#{System.unique_integer([:positive])}"
    submit = %{submit | output_dir: Store.work_dir(own, submit.attempt)}
    :ok = Scheduler.host(state.name, id, state.mode, node(state.job))
    {:ok, %{state | submit: submit}}
  end

  @impl GenServer
  def handle_cast(:cancel, state), do: {:stop, :normal, state}

  @impl GenServer
  def handle_info({:hosted, node}, %{phase: :slot} = state) do
    state = %{state | node: node, ref: Process.monitor(node), phase: :inputs}
    owner = node(state.job)
    inputs = state.submit.inputs
    {:noreply, task(state, fn -> Attempt.inputs(inputs, &Transfer.ensure(&1, owner)) end)}
  end

  def handle_info(:refused, %{phase: :slot} = state) do
    tell(state, :refused)
    {:stop, :normal, state}
  end

  def handle_info({ref, result}, %{task: ref} = state) do
    Process.demonitor(ref, [:flush])
    moved(%{state | task: nil}, result)
  end

  def handle_info({:DOWN, ref, :process, _pid, reason}, %{task: ref} = state) do
    moved(state, {:error, Error.new("internal", "Moving files failed: #{Shown.reason(reason)}")})
  end

  def handle_info({:model_node, _id, _attempt, message}, %{phase: :running} = state) do
    model_node(message, state)
  end

  def handle_info({:DOWN, ref, :process, _pid, _reason}, %{ref: ref, phase: :outputs} = state) do
    # It has done its part.
    {:noreply, state}
  end

  def handle_info({:DOWN, ref, :process, _pid, _reason}, %{ref: ref} = state) do
    tell(state, {:lost, Error.new("node_crashed", "The process of #{state.name} died")})
    {:stop, :normal, state}
  end

  # The job's process, or the way to it.
  def handle_info({:DOWN, _ref, :process, _pid, _reason}, state), do: {:stop, :normal, state}
  def handle_info(_late, state), do: {:noreply, state}

  # The slot is given back by the model node when it has let go, or by the scheduler, which watches
  # this process; when there was none, here. So is what the model node has written: one that was
  # killed meanwhile leaves it, one that goes on deletes it when it lets go.
  @impl GenServer
  def terminate(_reason, state) do
    if state.phase == :slot, do: give_back(state)
    if state.phase in [:running, :outputs], do: File.rm_rf(state.submit.output_dir)
  end

  defp give_back(state), do: Scheduler.slot_free(node(state.job), state.name, state.submit.id)

  # --- what the model node says

  defp model_node(%Done{} = done, state) do
    %{submit: submit, job: job} = state
    state = %{state | phase: :outputs}
    {:noreply, task(state, fn -> outputs(done, submit.output_dir, node(job)) end)}
  end

  defp model_node(message, state) do
    tell(state, message)
    if ends?(message), do: {:stop, :normal, state}, else: {:noreply, state}
  end

  defp ends?(%Failed{}), do: true
  defp ends?({:lost, _error}), do: true
  defp ends?(_going_on), do: false

  # --- files

  defp task(state, move) do
    task = Task.Supervisor.async_nolink(Koma.Cluster.Tasks, move)
    %{state | task: task.ref}
  end

  defp moved(%{phase: :inputs} = state, {:ok, inputs}) do
    submit = %{state.submit | inputs: inputs}
    ModelNode.submit(state.node, submit)
    {:noreply, %{state | submit: submit, phase: :running}}
  end

  defp moved(%{phase: :outputs} = state, {:ok, done}) do
    tell(state, done)
    {:stop, :normal, state}
  end

  defp moved(state, {:error, %Error{} = error}) do
    fields = error |> Map.from_struct() |> Map.take([:code, :message, :field, :value, :bound])
    tell(state, struct!(Failed, Map.merge(fields, %{id: state.submit.id, scope: "job"})))
    {:stop, :normal, state}
  end

  defp outputs(done, dir, owner) do
    with {:ok, outputs} <- Outputs.store(done.outputs, dir),
         :ok <- hand_over(outputs, owner) do
      {:ok, %{done | outputs: outputs}}
    end
  end

  defp hand_over(outputs, owner) do
    Enum.find_value(outputs, :ok, fn
      %{artifact: %{id: id}} -> with :ok <- Transfer.hand_over(id, owner), do: nil
      _text -> nil
    end)
  end

  defp tell(state, message) do
    %{id: id, attempt: attempt} = state.submit
    send(state.job, {:model_node, id, attempt, message})
  end
end
