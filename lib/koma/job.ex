defmodule Koma.Job do
  @moduledoc """
  Jobs: accepting, following, cancelling and reading them. Live ones have a process; the others
  are read from the store.
  """

  @behaviour Koma.Once

  alias Koma.{
    Access,
    Cache,
    Caller,
    Cluster,
    Error,
    Once,
    Options,
    Queue,
    Scheduler,
    Shown,
    Store,
    Transfer
  }

  alias Koma.Telemetry
  alias Koma.Job.{Cached, Event, Followers, Keeper, Lifecycle, Preview, Processes, Record}
  alias Koma.Job.{Request, Retry, Server}
  alias Koma.Queue.Ticket

  @type filter :: %{optional(String.t()) => term}

  @default_limit 100
  @max_limit 1_000

  @doc "Checks, admits, stores and starts a job: see docs/internals.md."
  @spec submit(term, Caller.t()) :: {:ok, map} | {:error, Error.t()}
  def submit(request, %Caller{} = caller) do
    Telemetry.span(:job, fn -> Once.submit(__MODULE__, request, caller) end)
  end

  # Where several gateways share a store, any of them may have made it.
  @impl Once
  def made(name, caller) do
    Enum.find_value(Cluster.tags(), :error, fn tag ->
      with {:ok, %Record{once: digest}} <- owned("job_" <> tag <> name, caller),
           {:ok, job} <- get("job_" <> tag <> name, caller) do
        {:ok, digest, job}
      else
        {:error, %Error{code: "not_found"}} -> nil
        {:error, error} -> {:error, error}
      end
    end)
  end

  @impl Once
  def make(request, once, caller) do
    case Request.build(request, once, caller) do
      {:ok, record} -> record |> enter(caller) |> count_refusal(record.model)
      {:error, error} -> count_refusal({:error, error}, nil)
    end
  end

  defp enter(record, caller) do
    case Cache.fetch(record.fingerprint) do
      {:ok, result} -> answer(record, result)
      :miss -> run(record, caller.process || self())
    end
  end

  defp count_refusal({:ok, job}, _model), do: {:ok, job}

  defp count_refusal({:error, error}, model) do
    metadata = %{model: model, code: error.code}
    Telemetry.execute([:koma, :job, :refused], %{count: 1}, metadata)
    {:error, error}
  end

  # A job of its own that is complete when it is accepted: stored with one sync.
  defp answer(record, result) do
    with :ok <- Access.count_job(record.key),
         {:ok, record} <- counted(record, Cached.answer(record, result)) do
      accepted(record)
      {:ok, Record.to_map(record)}
    end
  end

  defp run(record, submitter) do
    with :ok <- Access.count_job(record.key),
         :ok <- counted(record, admit(record)) do
      case Cache.fetch_shared(record.fingerprint) do
        {:ok, result} -> answer_shared(record, result)
        :miss -> begin(record, submitter)
      end
    end
  end

  defp answer_shared(record, result) do
    Queue.leave(record.model, record.id)

    with {:ok, record} <- counted(record, Cached.answer(record, result)) do
      Cached.keep(record)
      accepted(record)
      {:ok, Record.to_map(record)}
    end
  end

  defp begin(record, submitter) do
    :ok = Transfer.copy_inputs(Map.values(record.inputs))
    with :ok <- counted(record, store(record)), do: {:ok, start(record, submitter)}
  end

  # Only accepted jobs count.
  defp counted(record, result) do
    if match?({:error, _refused}, result), do: Access.discount_job(record.key)
    result
  end

  # Who joins a run needs no place.
  defp admit(record) do
    case Queue.admit(record.model, ticket(record)) do
      {:error, %{code: "overloaded"}} = refused ->
        if Processes.joinable?(record), do: :ok, else: refused

      admitted_or_draining ->
        admitted_or_draining
    end
  end

  defp ticket(record), do: Ticket.new(record, Retry.class(record, Options.get().max_attempts))

  defp store(record) do
    with refused when refused != :ok <- Store.Jobs.accept(record, Access.max_jobs(record.key)) do
      Queue.leave(record.model, record.id)
      if refused == :too_many, do: Access.refuse_job(record.key), else: refused
    end
  end

  defp start(record, submitter) do
    accepted(record)
    pid = Processes.start(record, submitter)
    Keeper.watch(record.id, pid)

    case live(record.id, &Server.accepted(&1, record.id), &Record.to_map/1) do
      {:ok, job} -> job
      # Ended and forgotten already.
      {:error, _not_found} -> Record.to_map(record)
    end
  end

  defp accepted(record) do
    metadata = Map.take(record, [:id, :task, :model])
    Telemetry.execute([:koma, :job, :accepted], %{count: 1}, metadata)
  end

  @doc "Cancels a job. Harmless in every state; `not_found` only for ids never seen."
  @spec cancel(String.t(), Caller.t()) :: :ok | {:error, Error.t()}
  def cancel(id, caller) do
    with {:ok, _record} <- owned(id, caller),
         {:ok, answer} <- live(id, &Server.cancel(&1, id), &cancel_elsewhere/1),
         do: answer
  end

  # One that has ended, or is about to, stays as it is.
  defp cancel_elsewhere(%Record{id: id} = record) do
    case if(Record.ended?(record), do: :here, else: Store.Jobs.owner(id)) do
      :here -> :ok
      {:error, error} -> {:error, error}
      _another_or_none -> {:error, elsewhere(id)}
    end
  end

  defp elsewhere(id) do
    message = "The job #{id} runs on another gateway, which has to be asked to cancel it"
    Error.new("unavailable", message, value: id, retry_after_ms: 2_000)
  end

  @doc """
  Forgets a job that has ended, as the end of its retention would: nobody can read it any more, and
  the collector frees those of its artifacts that no other job names. `conflict` while it lives.
  """
  @spec forget(String.t(), Caller.t()) :: :ok | {:error, Error.t()}
  def forget(id, caller) do
    with {:ok, record} <- owned(id, caller) do
      if Record.ended?(record), do: Store.Jobs.forget([id]), else: {:error, live_still(record)}
    end
  end

  defp live_still(%Record{state: state}) do
    message = "The job has not ended (it is #{state}); cancel it first"
    Error.new("conflict", message, field: "state", value: state)
  end

  @doc "Reads a job."
  @spec get(String.t(), Caller.t()) :: {:ok, map} | {:error, Error.t()}
  def get(id, caller) do
    with {:ok, _record} <- owned(id, caller), do: live(id, &Server.get(&1, id), &Record.to_map/1)
  end

  @doc """
  The caller's jobs, newest first. `filter` may hold `state`, `task`, `model` and `limit`.
  """
  @spec list(Caller.t(), filter) :: [map]
  def list(%Caller{key: key}, filter) do
    limit = limit(filter)

    fields =
      for {name, field} <- [{"state", :state}, {"task", :task}, {"model", :model}],
          value = filter[name],
          do: {field, value}

    keep? = fn record ->
      Enum.all?(fields, fn {field, value} -> Map.get(record, field) == value end)
    end

    key |> Store.Jobs.list(keep?, limit) |> Enum.map(&Record.to_map/1)
  end

  @doc "One list of those of several gateways, each of `list/2`."
  @spec merge([[map]], filter) :: [map]
  def merge([jobs], _filter), do: jobs

  def merge(lists, filter) do
    lists
    |> Enum.concat()
    |> Enum.uniq_by(& &1["id"])
    |> Enum.sort_by(&{&1["created_at"], &1["id"]}, :desc)
    |> Enum.take(limit(filter))
  end

  defp limit(filter), do: filter |> Map.get("limit", @default_limit) |> min(@max_limit)

  @doc "Lets the calling process follow a job; see `Koma.subscribe/3`."
  @spec subscribe(String.t(), non_neg_integer | :none, Caller.t()) ::
          {:ok, map, [Event.t()], Preview.t() | nil} | {:error, Error.t()}
  def subscribe(id, after_seq, caller) do
    with {:ok, _record} <- owned(id, caller) do
      # First joined, then read: what happens in between comes twice and is skipped.
      Followers.join(id, if(after_seq == :none, do: :end, else: :events))

      catch_up = &Server.catch_up(&1, id, after_seq)

      with {:ok, {job, events, preview}} <- live(id, catch_up, &read(&1, after_seq)) do
        Followers.skip(id, job["seq"])
        if Lifecycle.terminal?(job["state"]), do: Followers.leave(id)
        {:ok, job, events, preview}
      else
        {:error, error} ->
          Followers.leave(id)
          {:error, error}
      end
    end
  end

  # Of a job that another gateway owns the store tells what comes.
  defp read(%Record{id: id}, after_seq) do
    with {:ok, record, events} <- Store.Jobs.read(id, after_seq) do
      unless Record.ended?(record), do: Store.Jobs.watch(id, record.seq)
      {Record.to_map(record), events, nil}
    else
      :error -> {:error, not_found(id)}
      {:error, error} -> {:error, error}
    end
  end

  @doc "Stops following a job, which `subscribe/3` began: no message about it comes any more."
  @spec unsubscribe(String.t()) :: :ok
  def unsubscribe(id) do
    Followers.leave(id)
    # Whatever its process sends, it has sent before it answers this.
    with pid when is_pid(pid) <- Processes.whereis(id), do: call(pid, &Server.leave(&1, id))
    Followers.forget(id)
  end

  @doc """
  Stops for good: refuses new jobs, starts none of those that wait, and lets the running ones
  finish within `timeout_ms`. What is left is stored and goes on after the next start. The attempts of
  other peers' jobs are waited for by `await_visits`, in the time that is left.
  """
  @spec drain(non_neg_integer, await_visits :: (non_neg_integer -> :ok)) :: :ok
  def drain(timeout_ms, await_visits) do
    deadline = System.monotonic_time(:millisecond) + timeout_ms
    Queue.drain(true)
    Scheduler.close()
    Scheduler.await_idle(timeout_ms)
    # What ran here for others is theirs once they have its outputs.
    await_visits.(max(deadline - System.monotonic_time(:millisecond), 0))
    # A slot is free when Python is done; the job is done when its outputs are stored, too.
    Enum.each(Processes.all(), fn {id, pid} -> call(pid, &Server.get(&1, id)) end)
  end

  # One key cannot see the jobs of another, not even that they exist.
  defp owned(id, %Caller{key: key}) do
    case Store.Jobs.fetch(id) do
      {:ok, %Record{key: ^key} = record} -> {:ok, record}
      {:error, error} -> {:error, error}
      _unknown -> {:error, not_found(id)}
    end
  end

  defp not_found(id) do
    Error.new("not_found", "There is no job #{Shown.text(id)}", value: id)
  end

  # A job may end between looking for its process and asking it; then the store has the answer,
  # unless so many ended since that it was forgotten.
  defp live(id, ask, stored) do
    with pid when is_pid(pid) <- Processes.whereis(id),
         {:ok, answer} when answer != :ended <- call(pid, ask) do
      {:ok, answer}
    else
      _not_live -> stored(id, ask, stored)
    end
  end

  defp stored(id, ask, stored) do
    with {:ok, record} <- Store.Jobs.fetch(id) do
      if Record.ended?(record) or Store.Jobs.elsewhere?(record) do
        answered(stored.(record))
      else
        # Its process died, and the keeper may not know yet.
        Keeper.ensure(id)
        live(id, ask, stored)
      end
    else
      :error -> {:error, not_found(id)}
      {:error, error} -> {:error, error}
    end
  end

  defp answered({:error, error}), do: {:error, error}
  defp answered(answer), do: {:ok, answer}

  defp call(pid, ask) do
    {:ok, ask.(pid)}
  catch
    :exit, _ended_meanwhile -> :gone
  end
end
