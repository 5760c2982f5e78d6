defmodule Koma do
  @moduledoc """
  The façade of the gateway's core: what a socket, a route or a pipeline may ask for. Maps that
  leave it have string keys and the shapes of docs/api.md.

  While the core starts again after a crash, the answer is `unavailable`: jobs that were accepted
  are stored and go on, and whoever follows one goes on following it.

  In a cluster a job has one gateway, and what is asked of another one is passed on to it
  (`Koma.Remote.ask_owner/3`).
  """

  alias Koma.{Caller, Cluster, Error, Job, ModelNode, Remote}
  alias Koma.Job.{Event, Preview}

  @doc "Accepts a job: when this returns `{:ok, job}`, it is stored and will be answered."
  @spec submit(request :: term, Caller.t()) :: {:ok, job :: map} | {:error, Error.t()}
  def submit(request, caller), do: ask(fn -> Job.submit(request, caller) end)

  @doc """
  How much of the prompts in the parameters of a job their model reads: `request` has its `task`, perhaps its
  `model`, and `params` as far as they are written. Nothing is queued for that.
  """
  @spec count(request :: term) :: {:ok, %{String.t() => map}} | {:error, Error.t()}
  def count(request) do
    ask(fn ->
      with {:ok, family, task, params} <- Job.Request.draft(request),
           do: ModelNode.count(family, task, params)
    end)
  end

  @doc "Cancels a job. Harmless for jobs that ended; `not_found` only for ids never seen."
  @spec cancel(String.t(), Caller.t()) :: :ok | {:error, Error.t()}
  def cancel(id, caller), do: at_owner(:cancel, id, caller, &Job.cancel/2)

  @doc "Forgets a job that has ended, and lets its artifacts go; `conflict` while it lives."
  @spec forget(String.t(), Caller.t()) :: :ok | {:error, Error.t()}
  def forget(id, caller), do: at_owner(:forget, id, caller, &Job.forget/2)

  @doc "Reads a job."
  @spec job(String.t(), Caller.t()) :: {:ok, map} | {:error, Error.t()}
  def job(id, caller), do: at_owner(:job, id, caller, &Job.get/2)

  defp at_owner(function, id, caller, here) do
    ask(fn ->
      Remote.ask_owner(id, {__MODULE__, function, [id, caller]}, fn -> here.(id, caller) end)
    end)
  end

  @doc """
  The caller's jobs, of all gateways, newest first; `filter` may hold `state`, `task`, `model`, `limit`. A
  gateway that does not answer soon is left out.
  """
  @spec jobs(Caller.t(), Job.filter()) :: [map]
  def jobs(caller, filter) do
    elsewhere = Cluster.ask_gateways({Job, :list, [caller, filter]})
    Job.merge([ask(fn -> Job.list(caller, filter) end, []) | elsewhere], filter)
  end

  @doc """
  Lets the calling process follow a job. Returns the job, its events after `after_seq` and the
  latest preview. Then come, until the job ends or the process unsubscribes,
  `{:koma_events, id, [%Koma.Job.Event{}]}` for all later events, in order, and
  `{:koma_preview, id, %Koma.Job.Preview{}}`, which may be left out for a process with a long
  mailbox. Where a process of the gateway dies meanwhile, an event may come twice or after a gap;
  `Koma.Follower` makes one story of that. With `:none` in place of a number the process is told the
  end of the job and nothing before it, where the job is one of this gateway.
  """
  @spec subscribe(String.t(), non_neg_integer | :none, Caller.t()) ::
          {:ok, map, [Event.t()], Preview.t() | nil} | {:error, Error.t()}
  def subscribe(id, after_seq, caller) do
    ask(fn ->
      first = if after_seq == :none, do: 0, else: after_seq

      Remote.follow(__MODULE__, id, first, caller, fn ->
        Job.subscribe(id, after_seq, caller)
      end)
    end)
  end

  @doc """
  Stops following a job, which `subscribe/3` began: no message about it is in the mailbox of the
  calling process afterwards, and none comes.
  """
  @spec unsubscribe(String.t()) :: :ok
  def unsubscribe(id) do
    :ok = Remote.unfollow(id)
    ask(fn -> Job.unsubscribe(id) end, :ok)
  end

  @doc "The models that are served, with the schemas of their tasks."
  @spec models() :: [map]
  def models, do: ask(&ModelNode.Catalogue.models/0, [])

  @doc "Whether every model node is ready, or which are not, and why."
  @spec ready() :: :ok | {:error, missing :: [map]}
  def ready do
    case ask(&ModelNode.Catalogue.missing/0, [%{"node" => "core", "state" => "starting"}]) do
      [] -> :ok
      missing -> {:error, missing}
    end
  end

  @doc """
  Refuses new jobs and lets the running ones finish within `timeout_ms`; the others are stored
  and go on after the next start.
  """
  @spec drain(non_neg_integer) :: :ok
  def drain(timeout_ms), do: ask(fn -> Job.drain(timeout_ms, &Remote.await_visits/1) end, :ok)

  @doc """
  Asks the core; the second argument is the answer while it starts again. For what stands beside this
  façade: what operators ask, and what they watch.
  """
  @spec ask((() -> answer), answer) :: answer when answer: term
  def ask(question, without_core \\ {:error, unavailable()}) do
    question.()
  catch
    # The process that was asked is gone,
    :exit, {_reason, {GenServer, :call, _arguments}} ->
      without_core

    # or its table is.
    :error, error ->
      if gone?(error, __STACKTRACE__),
        do: without_core,
        else: :erlang.raise(:error, error, __STACKTRACE__)
  end

  defp gone?(error, [{module, _function, _arguments, _location} | _calls]) do
    (error in [:badarg] and module == :ets) or
      (match?(%ArgumentError{}, error) and module == Registry)
  end

  defp unavailable do
    Error.new("unavailable", "The server is starting again; no accepted job is lost",
      retry_after_ms: 1_000
    )
  end
end
