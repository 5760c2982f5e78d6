defmodule Koma.Pipeline do
  @moduledoc """
  Pipelines: small graphs of jobs. Live ones have a process; finished ones are read from disk.
  """

  @behaviour Koma.Once

  alias Koma.{Access, Caller, Error, Follower, Once, Remote}
  alias Koma.Job.{Attachment, Event}
  alias Koma.ModelNode.Catalogue
  alias Koma.Pipeline.{Files, Followers, Graph, Record, Server, Sizes}

  @doc "Checks, stores and starts a pipeline: when this returns `{:ok, pipeline}` it will be answered."
  @spec submit(term, Caller.t()) :: {:ok, map} | {:error, Error.t()}
  def submit(request, caller), do: Once.submit(__MODULE__, request, caller)

  @impl Once
  def made(name, caller) do
    id = Files.id(name)

    with {:ok, %Record{once: digest}} <- owned(id, caller),
         {:ok, pipeline} <- get_here(id, caller) do
      {:ok, digest, pipeline}
    else
      {:error, _not_found} -> :error
    end
  end

  @impl Once
  def make(request, once, %Caller{key: key} = caller) do
    with {:ok, graph} <- Graph.new(request, tasks()),
         {:ok, graph} <- Graph.map_files(graph, &file(&1, &2, caller)),
         record = new(graph, once, key),
         :ok <- Access.admit_pipeline(key, &admit(record, &1, &2)),
         :ok <- store(record) do
      :ok = Koma.Pipeline.Supervisor.start(record.id, caller.process || self())
      {:ok, live(record.id, &Server.get/1, fn record, _events -> Record.to_map(record) end)}
    end
  end

  # Which media types are wanted is known when the stage is submitted.
  defp file(value, field, caller) do
    if Attachment.attached?(value),
      do: Attachment.store(value, field, nil, caller),
      else: {:ok, value}
  end

  defp new(graph, nil, key), do: Record.new(Files.new_id(), key, graph)

  defp new(graph, %Once{name: name, digest: digest}, key),
    do: %Record{Record.new(Files.id(name), key, graph) | once: digest}

  # Before it is stored, and by what it will take there.
  defp admit(record, max_live, max_bytes) do
    Sizes.admit(record.id, record.key, Files.bytes(record), max_live, max_bytes)
  end

  defp store(record) do
    with {:error, error} <- Files.accept(record) do
      Sizes.forget(record.id)
      {:error, error}
    end
  end

  @doc "Cancels a pipeline and the jobs of its stages. Harmless for one that has ended."
  @spec cancel(String.t(), Caller.t()) :: :ok | {:error, Error.t()}
  def cancel(id, caller), do: at_owner(:cancel, id, caller, fn -> cancel_here(id, caller) end)

  defp cancel_here(id, caller) do
    with {:ok, _record} <- owned(id, caller), do: live(id, &Server.cancel/1, fn _, _ -> :ok end)
  end

  @doc "Reads a pipeline."
  @spec get(String.t(), Caller.t()) :: {:ok, map} | {:error, Error.t()}
  def get(id, caller), do: at_owner(:get, id, caller, fn -> get_here(id, caller) end)

  # Another gateway may ask while this one starts.
  defp at_owner(function, id, caller, here) do
    Koma.ask(fn -> Remote.ask_owner(id, {__MODULE__, function, [id, caller]}, here) end)
  end

  defp get_here(id, caller) do
    with {:ok, _record} <- owned(id, caller) do
      {:ok, live(id, &Server.get/1, fn record, _events -> Record.to_map(record) end)}
    end
  end

  @doc """
  Lets the calling process follow a pipeline. Returns the pipeline, its events after `seq`, and
  the latest preview of each running stage. Then come `{:koma_pipeline_event, id, %Koma.Job.Event{}}`
  for every later event, in order, without gaps, and
  `{:koma_pipeline_preview, id, stage, %Koma.Job.Preview{}}`.
  """
  @spec subscribe(String.t(), non_neg_integer, Caller.t()) ::
          {:ok, map, [Event.t()], [Follower.preview()]} | {:error, Error.t()}
  def subscribe(id, seq, caller) do
    here = fn -> subscribe_here(id, seq, caller) end
    Koma.ask(fn -> Remote.follow(__MODULE__, id, seq, caller, here) end)
  end

  defp subscribe_here(id, seq, caller) do
    with {:ok, _record} <- owned(id, caller) do
      # First joined, then read: what happens in between comes twice and is skipped.
      :ok = Followers.join(id)

      {map, events, previews} =
        live(id, &Server.catch_up(&1, seq), fn record, events ->
          :ok = Followers.leave(id)
          {Record.to_map(record), Enum.filter(events, &(&1.seq > seq)), []}
        end)

      :ok = Followers.skip(id, map["seq"])
      {:ok, map, events, previews}
    end
  end

  @doc """
  Stops following a pipeline, which `subscribe/3` began: no message about it is in the mailbox of
  the calling process afterwards, and none comes.
  """
  @spec unsubscribe(String.t()) :: :ok
  def unsubscribe(id) do
    :ok = Remote.unfollow(id)
    :ok = Followers.leave(id)
    # Whatever its process was sending, it has sent before it answers this.
    with pid when is_pid(pid) <- whereis(id), do: call(pid, &Server.leave/1)
    Followers.forget(id)
  end

  @doc "The process of a live pipeline."
  @spec whereis(String.t()) :: pid | nil
  defdelegate whereis(id), to: Koma.Pipeline.Supervisor

  # What stages may ask for. While not all tasks are known they are looked at only when the stage is
  # submitted.
  defp tasks do
    if Koma.ask(&Catalogue.complete?/0, false) do
      for model <- Koma.models(), {task, spec} <- model["tasks"], into: %{} do
        {task, Map.keys(spec["outputs"])}
      end
    end
  end

  defp owned(id, %Caller{key: key}) do
    case Files.read(id) do
      {:ok, %Record{key: ^key} = record, _events} ->
        {:ok, record}

      _unknown ->
        {:error,
         Error.new("not_found", "There is no pipeline of this id.", field: "id", value: id)}
    end
  end

  # A pipeline may end between looking for its process and asking it; then its file has the answer.
  defp live(id, ask, stored) do
    with pid when is_pid(pid) <- whereis(id),
         {:ok, answer} <- call(pid, ask) do
      answer
    else
      _not_live -> stored(id, ask, stored)
    end
  end

  defp stored(id, ask, stored) do
    {:ok, record, events} = Files.read(id)

    if Record.ended?(record) do
      stored.(record, events)
    else
      # Its process died and is being started again.
      :ok = Koma.Pipeline.Supervisor.start(id, nil)
      live(id, ask, stored)
    end
  end

  defp call(pid, ask) do
    {:ok, ask.(pid)}
  catch
    :exit, {reason, {GenServer, :call, _arguments}} when reason != :timeout -> :gone
  end
end
