defmodule Koma.ModelNode.Catalogue do
  @moduledoc """
  What the model nodes serve and how they are, in a table that anyone reads. Each model node of this
  peer writes its own row; those of other peers come from `Koma.Cluster.rows/0`.

  A family is *live* while one of its model nodes is ready, or was ready and is being restarted
  without having failed often in a row: jobs are accepted then and wait.
  """
  use GenServer

  alias Koma.{Cluster, Error, Options, Provenance, Schema, Shown}
  alias Koma.ModelNode.Catalogue.Row
  alias Koma.ModelNode.{Order, Spec}
  alias Koma.Wire.Messages.Ready

  @table __MODULE__
  # A model node that failed this often in a row is down, not restarting.
  @hopeful_failures 5

  @doc "So many failures in a row that nobody waits for the model node any more."
  @spec hopeless() :: pos_integer
  def hopeless, do: @hopeful_failures

  @doc """
  Starts the owner of the table, for the model nodes of this peer: each has a row from the beginning,
  so that none is thought to be ready before it has started.
  """
  @spec start_link([Spec.t()]) :: GenServer.on_start()
  def start_link(specs), do: GenServer.start_link(__MODULE__, specs, name: __MODULE__)

  @doc "Writes the row of a model node."
  @spec put(Row.t()) :: :ok
  def put(%Row{spec: spec} = row) do
    for {task, spec} <- tasks(row.ready),
        do: :ets.insert(@table, {{:task, task, row.spec.family}, spec})

    :ets.insert(@table, {{:node, spec.name}, row})
    if Cluster.on?(), do: Cluster.Peers.put_row(row), else: :ok
  end

  @doc "Every row of this peer, by name."
  @spec rows() :: [Row.t()]
  def rows do
    @table |> :ets.match({{:node, :_}, :"$1"}) |> List.flatten() |> Enum.sort_by(& &1.spec.name)
  end

  @doc """
  The family and the declaration of a task. `model` (a family) chooses where several serve it.

  Errors: `unknown_task` with the known ones, `unknown_model`, and `unavailable` while nothing
  that could serve it is live, or not all tasks are known.
  """
  @spec task(String.t(), String.t() | nil) :: {:ok, String.t(), map} | {:error, Error.t()}
  def task(task, model) do
    serving = serving(task)

    chosen =
      if model, do: Enum.filter(serving, fn [family, _spec] -> family == model end), else: serving

    live = Enum.find(chosen, fn [family, _spec] -> live?(family) end)

    cond do
      live != nil -> {:ok, hd(live), List.last(live)}
      serving == [] -> unknown_task(task)
      chosen == [] -> unknown_model(model, task, serving)
      true -> unavailable(task)
    end
  end

  @doc """
  What the model nodes of a family, of all peers, compute with: checkpoint digest and number
  format, and the marks of their results. `:error` while none was ready, or when they differ: then no two results are taken for equal.
  """
  @spec checkpoint(String.t()) :: {:ok, String.t()} | :error
  def checkpoint(family) do
    told =
      for %Row{ready: %Ready{} = ready} = row <- all_rows(), row.spec.family == family, do: ready

    case Enum.uniq_by(told, &{&1.checkpoint_digest, &1.dtype}) do
      [%Ready{checkpoint_digest: <<_, _::binary>> = digest, dtype: dtype} = ready] ->
        {:ok, "#{family}/#{digest}/#{dtype}#{Provenance.policy(ready.tasks, Options.get())}"}

      _none_or_several ->
        :error
    end
  end

  @doc """
  Whether all tasks are known. Not while a model node loads for the first time, nor while a peer is away: either may
  have tasks that nobody else has.
  """
  @spec complete?() :: boolean
  def complete? do
    rows = all_rows()

    rows != [] and not Enum.any?(rows, &untold?/1) and
      Enum.all?(Cluster.known(), fn {_peer, connected?} -> connected? end)
  end

  defp untold?(%Row{ready: nil, phase: phase, failures: n}),
    do: n < @hopeful_failures and not Order.as_wanted?(phase)

  defp untold?(_told), do: false

  @doc "Whether jobs of a family can be accepted."
  @spec live?(String.t()) :: boolean
  def live?(family), do: Enum.any?(all_rows(), &(&1.spec.family == family and live_row?(&1)))

  @doc "What `GET /v1/models` tells: one entry per family."
  @spec models() :: [map]
  def models do
    all_rows()
    |> Enum.group_by(& &1.spec.family)
    |> Enum.sort()
    |> Enum.map(fn {family, rows} -> model(family, rows) end)
  end

  @doc """
  The model nodes that are not as they are wanted, and why; one that an operator drained is. In a
  cluster only those of families that no model node of any peer serves now; and the cluster itself,
  while it has none at all.
  """
  @spec missing() :: [map]
  def missing, do: if(Cluster.on?(), do: missing_anywhere(all_rows()), else: missing(rows()))

  defp missing_anywhere([]) do
    [%{"node" => "cluster", "state" => "no peer with model nodes is connected"}]
  end

  defp missing_anywhere(rows) do
    served = for %Row{phase: :ready} = row <- rows, do: row.spec.family
    rows |> Enum.reject(&(&1.spec.family in served)) |> missing()
  end

  defp missing(rows) do
    for %Row{spec: spec, phase: phase} = row <- rows, not Order.as_wanted?(phase) do
      entry = %{"node" => spec.name, "family" => spec.family, "state" => Atom.to_string(phase)}
      put_error(entry, row.error)
    end
  end

  defp all_rows, do: rows() ++ Cluster.rows()

  # The declarations of this peer before those of others.
  defp serving(task) do
    here = :ets.match(@table, {{:task, task, :"$1"}, :"$2"})

    elsewhere =
      for row <- Cluster.rows(),
          %{^task => spec} <- [tasks(row.ready)],
          do: [row.spec.family, spec]

    (here ++ elsewhere) |> Enum.uniq_by(&hd/1) |> Enum.sort()
  end

  defp known_tasks do
    here = @table |> :ets.match({{:task, :"$1", :_}, :_}) |> List.flatten()
    elsewhere = for row <- Cluster.rows(), {task, _spec} <- tasks(row.ready), do: task
    (here ++ elsewhere) |> Enum.uniq() |> Enum.sort()
  end

  defp live_row?(%Row{phase: :ready}), do: true
  defp live_row?(%Row{ready: ready, failures: n}), do: ready != nil and n < @hopeful_failures

  defp model(family, rows) do
    up = Enum.filter(rows, &(&1.phase == :ready))
    told = Enum.find(up ++ rows, hd(rows), & &1.ready)

    ready =
      told.ready || %{device: told.spec.device, dtype: told.spec.dtype, tasks: %{}, notice: nil}

    %{
      "family" => family,
      "checkpoint" => told.spec.checkpoint,
      "device" => ready.device,
      "dtype" => ready.dtype,
      "nodes" => length(up),
      "slots" => up |> Enum.map(& &1.ready.slots) |> Enum.sum(),
      "tasks" => ready.tasks |> stringify()
    }
    |> put_notice(ready.notice)
    |> put_marks(Provenance.told(ready.tasks, Options.get()))
    |> put_error(if(up == [], do: Enum.find_value(rows, & &1.error)))
  end

  defp stringify(tasks) do
    for {task, %{params: params, inputs: inputs, outputs: outputs}} <- tasks, into: %{} do
      inputs =
        for {name, input} <- inputs, into: %{} do
          {name, for({key, value} <- input, into: %{}, do: {Atom.to_string(key), value})}
        end

      {task, %{"params" => params, "inputs" => inputs, "outputs" => outputs}}
    end
  end

  defp put_notice(entry, nil), do: entry
  defp put_notice(entry, notice), do: Map.put(entry, "notice", notice)

  defp put_marks(entry, nil), do: entry
  defp put_marks(entry, marks), do: Map.put(entry, "marks", marks)

  defp put_error(entry, nil), do: entry
  defp put_error(entry, error), do: Map.put(entry, "error", Error.to_map(error))

  defp tasks(nil), do: %{}
  defp tasks(%Ready{tasks: tasks}), do: tasks

  defp unknown_task(task) do
    known = known_tasks()

    cond do
      known == [] or not complete?() ->
        unavailable(task)

      nearest = Schema.nearest(task, known) ->
        unknown_task(task, known, "did you mean #{nearest}?")

      true ->
        unknown_task(task, known, "known are #{Enum.join(known, ", ")}")
    end
  end

  defp unknown_task(task, known, hint) do
    message = "There is no task #{Shown.text(task)}; #{hint}"
    {:error, Error.new("unknown_task", message, field: "task", value: task, bound: known)}
  end

  defp unknown_model(model, task, serving) do
    families = Enum.map(serving, &hd/1)

    message =
      "No model #{Shown.text(model)} serves #{task}; these do: #{Enum.join(families, ", ")}"

    {:error, Error.new("unknown_model", message, field: "model", value: model, bound: families)}
  end

  defp unavailable(task) do
    {:error, Error.new("unavailable", "No model node serves #{task} now", retry_after_ms: 1_000)}
  end

  @impl GenServer
  def init(specs) do
    @table = :ets.new(@table, [:named_table, :public, read_concurrency: true])

    for spec <- specs,
        do: :ets.insert(@table, {{:node, spec.name}, %Row{spec: spec, phase: :waiting}})

    if Cluster.on?(), do: Cluster.Peers.reset(:rows)
    {:ok, nil}
  end
end
