defmodule Koma.CoreCase do
  @moduledoc """
  Tests of the core (everything but the edge) with real model nodes of the toy family. Each test
  gets a core of its own, in its own folder; names are global, so such tests are not async.
  """
  use ExUnit.CaseTemplate

  alias Koma.{Caller, Follower, Options}

  @root Path.expand("../..", __DIR__)
  @toy %{name: "toy", family: "toy", checkpoint: "toy", slots: 2}

  using do
    quote do
      import Koma.CoreCase
      alias Koma.Caller
    end
  end

  setup do
    dir = Koma.TestFolder.new("core")
    {:ok, dir: dir}
  end

  @doc "Starts a core below `dir`; `wait: false` returns before the model nodes are ready."
  @spec start_core(Path.t(), keyword) :: :ok
  def start_core(dir, overrides \\ []) do
    {wait?, overrides} = Keyword.pop(overrides, :wait, true)
    options = options(dir, overrides)
    Options.put(options)

    if GenServer.whereis(Koma.Telemetry) == nil do
      start_supervised!(Koma.Metrics)
      handlers = Koma.Metrics.handlers() ++ Koma.Dashboard.Errors.handlers()
      start_supervised!({Koma.Telemetry, handlers})
      start_supervised!(Koma.Job.Followers)
      start_supervised!({Koma.Access, options})
    end

    start_supervised!({Koma.Core, options})
    if wait?, do: await_ready()
    :ok
  end

  @doc "Stops the core in an orderly way; what is stored stays."
  @spec stop_core() :: :ok
  def stop_core, do: stop_supervised!(Koma.Core)

  @doc "The options of a test."
  @spec options(Path.t(), keyword) :: Options.t()
  def options(dir, overrides) do
    defaults = [
      data_dir: dir,
      edge: false,
      # Tests ask for the same again and again, and mean it.
      share_results: false,
      python: python(),
      python_path: Path.join(@root, "python_nodes"),
      models: [@toy],
      restart_min_ms: 20,
      restart_max_ms: 200,
      ping_interval_ms: 100,
      ping_timeout_ms: 5_000
    ]

    Options.new!(Keyword.merge(defaults, overrides))
  end

  @doc "The secret of the key that `key/2` makes."
  @spec secret(String.t()) :: String.t()
  def secret(id), do: "koma_secret_of_" <> id

  @doc "A line of the keys file."
  @spec key(String.t(), String.t()) :: String.t()
  def key(id, settings \\ "") do
    digest = :sha256 |> :crypto.hash(secret(id)) |> Base.encode16(case: :lower)
    "#{id} sha256:#{digest} #{settings};"
  end

  @doc "The toy entry with other fields."
  @spec toy(map) :: map
  def toy(fields \\ %{}), do: Map.merge(@toy, fields)

  @doc "The interpreter of the model nodes."
  @spec python() :: Path.t()
  def python, do: Path.join(@root, ".venv/bin/python")

  @doc "A command for `node_command` that runs test/support/scripted_node.py."
  @spec scripted(String.t(), [String.t()]) :: [String.t()]
  def scripted(behaviour, arguments \\ []) do
    [python(), Path.join(@root, "test/support/scripted_node.py"), behaviour | arguments]
  end

  @doc "Waits until every model node is ready."
  @spec await_ready() :: true
  def await_ready, do: eventually(fn -> Koma.ready() == :ok end)

  @doc "Submits a toy job; `request` may hold more than the parameters."
  @spec submit!(map, map) :: map
  def submit!(params \\ %{}, request \\ %{}) do
    request = Map.merge(%{"task" => "toy.run", "params" => params}, request)
    {:ok, job} = Koma.submit(request, %Caller{})
    job
  end

  @doc "Follows a job to its end and returns all its events; also for one that ended."
  @spec await_end(String.t(), timeout) :: [Koma.Job.Event.t()]
  def await_end(id, timeout \\ 20_000) do
    # What this process was told before would come twice.
    Koma.unsubscribe(id)
    hear({:job, id}, timeout)
  end

  @doc "Follows a pipeline to its end and returns all its events, from wherever it is told."
  @spec await_pipeline(String.t()) :: [Koma.Job.Event.t()]
  def await_pipeline(id), do: hear({:pipeline, id}, 50_000)

  @doc "All events of a job or pipeline, each once, as `Koma.Follower` tells them."
  @spec hear(Follower.subject(), timeout) :: [Koma.Job.Event.t()]
  def hear(subject, timeout) do
    {follower, events} = follow(subject)
    events ++ heard(follower, timeout)
  end

  @doc "Begins to follow, once it can be: the follower, and the events that there are."
  @spec follow(Follower.subject(), Caller.t()) :: {Follower.t(), [Koma.Job.Event.t()]}
  def follow(subject, caller \\ %Caller{}) do
    case Follower.start(subject, 0, caller) do
      {:ok, follower, _map, events, _previews} ->
        {follower, events}

      {:error, %{code: "unavailable", retry_after_ms: ms}} ->
        Process.sleep(ms)
        follow(subject, caller)
    end
  end

  @doc "What a follower is told up to the end; other messages stay in the mailbox."
  @spec heard(Follower.t(), timeout) :: [Koma.Job.Event.t()]
  def heard(%Follower{ended: true}, _timeout), do: []

  def heard(%Follower{subject: {_kind, id}} = follower, timeout) do
    receive do
      {kind, ^id, _told} = message when kind in [:koma_events, :koma_pipeline_event] ->
        {:events, events, follower} = Follower.handle(follower, message)
        events ++ heard(follower, timeout)
    after
      timeout -> raise "#{id} did not end: #{inspect(Koma.job(id, %Caller{}))}"
    end
  end

  @doc "Waits for an event of a type of a job that this process follows, and returns it."
  @spec await_event(String.t(), String.t()) :: Koma.Job.Event.t()
  def await_event(id, type) do
    receive do
      {:koma_events, ^id, events} ->
        Enum.drop_while(events, &(&1.type != type)) |> first(id, type)
    after
      20_000 -> raise "no #{type} of #{id}: #{inspect(Koma.job(id, %Caller{}))}"
    end
  end

  defp first([], id, type), do: await_event(id, type)

  defp first([event | told_with_it], id, _type) do
    if told_with_it != [], do: send(self(), {:koma_events, id, told_with_it})
    event
  end

  @doc "Follows a job and waits until it has made a step."
  @spec await_step(String.t()) :: true
  def await_step(id) do
    eventually(fn ->
      Enum.any?(Koma.Store.Jobs.events(id, 0), &(&1.type == "progress" and &1.data["step"] > 0))
    end)
  end

  @doc "Waits until this attempt of a job has made a step; asks, and follows nobody."
  @spec await_attempt(String.t(), pos_integer) :: true
  def await_attempt(id, attempt) do
    eventually(fn ->
      Enum.any?(Koma.Store.Jobs.events(id, 0), fn event ->
        event.type == "progress" and event.data["attempt"] == attempt and event.data["step"] > 0
      end)
    end)
  end

  @doc "The types of events, e.g. `~w(queued started completed)`; progress and new places left out."
  @spec milestones([Koma.Job.Event.t()]) :: [String.t()]
  def milestones(events) do
    Enum.dedup(for(%{type: t} <- events, t not in ~w(progress token), do: t))
  end

  @doc "Events as they are stored: without the texts that were made for those who were told."
  @spec as_stored([Koma.Job.Event.t()]) :: [Koma.Job.Event.t()]
  def as_stored(events), do: for(event <- events, do: %{event | json: nil})

  @doc """
  The digest that a toy job computed, the mark of the pixels that a job made, or the digest of its file. A
  medium without both of its marks has no digest: it must not be a result.
  """
  @spec digest([Koma.Job.Event.t()]) :: String.t()
  def digest(events) do
    case List.last(events) do
      %{type: "completed", data: %{"outputs" => [%{"text" => text}]}} ->
        :jiffy.decode(text, [:return_maps])["digest"]

      %{type: "completed", data: %{"outputs" => [%{"meta" => %{"marks" => marks}}]}} ->
        %{"id" => id, "signed" => true} = marks
        id

      %{type: "completed", data: %{"outputs" => [%{"artifact" => digest}]}} ->
        digest
    end
  end

  @doc "Asks again until the answer is true; raises after some seconds."
  @spec eventually((() -> boolean), non_neg_integer) :: true
  def eventually(fun, tries \\ 600) do
    cond do
      fun.() -> true
      tries == 0 -> raise "it did not become true"
      true -> Process.sleep(25) && eventually(fun, tries - 1)
    end
  end

  @doc "Whether an operating system process exists and is not a zombie."
  @spec alive?(pos_integer) :: boolean
  def alive?(os_pid) do
    case File.read("/proc/#{os_pid}/stat") do
      {:ok, stat} -> not String.contains?(stat, ") Z ")
      {:error, _gone} -> false
    end
  end
end
