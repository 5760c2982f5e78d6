defmodule Koma do
  @moduledoc """
  The façade of the gateway's core: what a socket, a route or a pipeline may ask for. Maps that
  leave it have string keys and the shapes of docs/api.md.
  """

  alias Koma.{Caller, Error, Job, ModelNode}
  alias Koma.Job.{Event, Preview}

  @doc "Accepts a job: when this returns `{:ok, job}`, it is stored and will be answered."
  @spec submit(request :: term, Caller.t()) :: {:ok, job :: map} | {:error, Error.t()}
  defdelegate submit(request, caller), to: Job

  @doc "Cancels a job. Harmless for jobs that ended; `not_found` only for ids never seen."
  @spec cancel(String.t(), Caller.t()) :: :ok | {:error, Error.t()}
  defdelegate cancel(id, caller), to: Job

  @doc "Reads a job."
  @spec job(String.t(), Caller.t()) :: {:ok, map} | {:error, Error.t()}
  defdelegate job(id, caller), to: Job, as: :get

  @doc "The caller's jobs, newest first; `filter` may hold `state`, `task`, `model`, `limit`."
  @spec jobs(Caller.t(), Job.filter()) :: [map]
  defdelegate jobs(caller, filter), to: Job, as: :list

  @doc """
  Lets the calling process follow a job. Returns the job, its events after `after_seq` and the
  latest preview. Then come, until the job ends or the process unsubscribes,
  `{:koma_event, id, %Koma.Job.Event{}}` for every later event, in order, without gaps, and
  `{:koma_preview, id, %Koma.Job.Preview{}}`, which may be left out for a process with a long
  mailbox.
  """
  @spec subscribe(String.t(), non_neg_integer, Caller.t()) ::
          {:ok, map, [Event.t()], Preview.t() | nil} | {:error, Error.t()}
  defdelegate subscribe(id, after_seq, caller), to: Job

  @doc "Ends that; no message about the job is in the mailbox afterwards."
  @spec unsubscribe(String.t()) :: :ok
  defdelegate unsubscribe(id), to: Job

  @doc "The models that are served, with the schemas of their tasks."
  @spec models() :: [map]
  defdelegate models, to: ModelNode.Catalogue

  @doc "Whether every model node is ready, or which are not, and why."
  @spec ready() :: :ok | {:error, missing :: [map]}
  def ready do
    case ModelNode.Catalogue.missing() do
      [] -> :ok
      missing -> {:error, missing}
    end
  end

  @doc """
  Refuses new jobs and lets the running ones finish within `timeout_ms`; the others are stored
  and go on after the next start.
  """
  @spec drain(non_neg_integer) :: :ok
  defdelegate drain(timeout_ms), to: Job
end
