defmodule Koma.OpenAI.Run do
  @moduledoc """
  One job that the process of a request submits, follows and waits for. When the client goes away
  that process ends, and the job with it, after the grace period of jobs that nobody follows.
  """

  alias Koma.{Access, Caller, Error, Follower}
  alias Koma.Job.{Event, Preview}
  alias Koma.OpenAI.{Refusal, Request}

  # A silent connection is taken for dead by many proxies after a minute.
  @silence_ms 15_000

  @enforce_keys [:id, :job, :follower, :begun, :named]
  defstruct [:id, :job, :follower, :begun, :named]

  @type t :: %__MODULE__{
          id: String.t(),
          job: map,
          follower: Follower.t(),
          begun: [Event.t()],
          named: %{String.t() => String.t()}
        }
  @typedoc "What `fold/3` tells while the job runs; `:silence` when nothing came for a while."
  @type news :: {:event, Event.t()} | {:preview, Preview.t()} | :silence

  @doc "Submits the job; when this returns it is accepted and stored."
  @spec start(Request.t(), Caller.t()) :: {:ok, t} | {:error, Error.t()}
  def start(%Request{job: job, named: named}, caller) do
    # A place among the key's sockets is taken first, so that nobody is refused a job that runs.
    with :ok <- Access.hold(caller, :sockets),
         {:ok, %{"id" => id}} <- Koma.submit(wanted(job), caller),
         {:ok, follower, job, events, _previews} <- Follower.start({:job, id}, 0, caller) do
      {:ok, %__MODULE__{id: id, job: job, follower: follower, begun: events, named: named}}
    else
      {:error, error} -> {:error, Request.renamed(named, error)}
    end
  end

  # Whoever names the request means to ask for it again, should the connection break.
  defp wanted(%{"idempotency_key" => _name} = request),
    do: Map.put(request, "on_disconnect", "keep")

  defp wanted(request), do: Map.put(request, "on_disconnect", "cancel")

  @doc "Tells `fun` all that happens, and returns the job when it has completed."
  @spec fold(t, acc, (news, acc -> acc)) :: {:ok, job :: map, acc} | {:error, Error.t(), acc}
        when acc: term
  def fold(%__MODULE__{} = run, acc, fun) do
    with {:error, error, acc} <- go_on(run.follower, events(run.begun, acc, fun), fun),
         do: {:error, Request.renamed(run.named, error), acc}
  end

  @doc "Waits for the end of the job."
  @spec await(t) :: {:ok, job :: map} | {:error, Error.t()}
  def await(run) do
    case fold(run, nil, fn _news, nil -> nil end) do
      {:ok, job, nil} -> {:ok, job}
      {:error, error, nil} -> {:error, error}
    end
  end

  defp go_on(%Follower{ended: true} = follower, acc, _fun), do: ended(follower, acc)

  defp go_on(follower, acc, fun) do
    receive do
      :koma_access_changed ->
        if Access.valid?(follower.caller),
          do: go_on(follower, acc, fun),
          else: {:error, Error.new("unauthorized", "The API key was taken away"), acc}

      message ->
        case Follower.handle(follower, message) do
          {:events, events, follower} -> go_on(follower, events(events, acc, fun), fun)
          {:preview, {_stage, preview}} -> go_on(follower, fun.({:preview, preview}, acc), fun)
          :other -> go_on(follower, acc, fun)
        end
    after
      @silence_ms -> go_on(follower, fun.(:silence, acc), fun)
    end
  end

  defp events(events, acc, fun), do: Enum.reduce(events, acc, &fun.({:event, &1}, &2))

  defp ended(%Follower{subject: {:job, id}, caller: caller}, acc) do
    case Koma.job(id, caller) do
      {:ok, %{"state" => "completed"} = job} -> {:ok, job, acc}
      {:ok, job} -> {:error, Refusal.of_job(job), acc}
      {:error, error} -> {:error, error, acc}
    end
  end
end
