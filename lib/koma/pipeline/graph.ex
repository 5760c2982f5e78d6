defmodule Koma.Pipeline.Graph do
  @moduledoc """
  A pipeline as data: named stages and what each needs of the others. Pure.

  A request is checked wholly before anything runs: the form of each stage, unique names, known
  tasks and outputs, references to stages and inputs that are there, and no cycles.
  """

  alias Koma.{Each, Error, Params}
  alias Koma.Pipeline.{Reference, Stage, Story}

  # A stage is a job; this many wait for each other at most.
  @max_stages 16
  @name ~r/\A[a-z][a-z0-9_]{0,31}\z/

  @request %{
    "pipeline" => {:string, nil},
    "stages" => {:list, nil},
    "inputs" => {:object, %{}},
    "params" => {:object, %{}},
    "on_disconnect" => {{:one_of, ~w(cancel keep)}, "cancel"}
  }
  @stage %{
    "name" => {:string, :required},
    "task" => {:string, :required},
    "model" => {:string, nil},
    "params" => {:object, %{}},
    "inputs" => {:object, %{}}
  }

  @enforce_keys [:stages, :inputs]
  defstruct [:stages, :inputs, on_disconnect: "cancel"]

  @typedoc """
  `stages` are in an order in which they could run one after another; `on_disconnect` says what becomes of it
  when nobody follows it any more, `cancel` or `keep`.
  """
  @type t :: %__MODULE__{stages: [Stage.t()], inputs: map, on_disconnect: String.t()}

  @typedoc "Known tasks with the names of their outputs; nil where tasks are not to be checked."
  @type tasks :: %{String.t() => [String.t()]} | nil

  @doc "How many stages a pipeline may have."
  @spec max_stages() :: pos_integer
  def max_stages, do: @max_stages

  @doc "Checks a pipeline request (docs/api.md); errors name the field by its path."
  @spec new(map, tasks) :: {:ok, t} | {:error, Error.t()}
  def new(request, tasks) do
    with {:ok, request} <- Params.check(request, @request),
         {:ok, given} <- given_stages(request),
         {:ok, stages} <- Each.map(Enum.with_index(given), &stage/1),
         :ok <- check_unique(stages),
         {:ok, stages} <- override(stages, request["params"]),
         {:ok, stages} <- Each.map(stages, &link(&1, stages, request["inputs"], tasks)),
         :ok <- check_inputs_used(stages, request["inputs"]),
         {:ok, ordered} <- order(stages) do
      %{"inputs" => inputs, "on_disconnect" => on_disconnect} = request
      {:ok, %__MODULE__{stages: ordered, inputs: inputs, on_disconnect: on_disconnect}}
    end
  end

  @doc """
  The graph with every file that comes with the request replaced by what `fun` makes of it: those
  that stages name as their inputs, directly or as an input of the pipeline.
  """
  @spec map_files(t, (term, path :: String.t() -> {:ok, term} | {:error, Error.t()})) ::
          {:ok, t} | {:error, Error.t()}
  def map_files(%__MODULE__{stages: stages, inputs: inputs} = graph, fun) do
    used = for stage <- stages, {_name, %{"from" => "input." <> name}} <- stage.inputs, do: name

    mapped =
      Each.map(inputs, fn {name, value} ->
        if name in used,
          do: named(name, fun.(value, "inputs.#{name}")),
          else: {:ok, {name, value}}
      end)

    with {:ok, inputs} <- mapped,
         {:ok, stages} <- Each.map(stages, &map_stage(&1, fun)),
         do: {:ok, %__MODULE__{graph | stages: stages, inputs: Map.new(inputs)}}
  end

  defp map_stage(%Stage{} = stage, fun) do
    mapped =
      Each.map(stage.inputs, fn {name, value} ->
        named(name, fun.(value, "#{path(stage, "inputs")}.#{name}"))
      end)

    with {:ok, inputs} <- mapped, do: {:ok, %Stage{stage | inputs: Map.new(inputs)}}
  end

  defp named(name, result), do: with({:ok, value} <- result, do: {:ok, {name, value}})

  @doc "The stage of this name."
  @spec fetch!(t, String.t()) :: Stage.t()
  def fetch!(%__MODULE__{stages: stages}, name), do: Enum.find(stages, &(&1.name == name))

  @doc """
  The stages that may start: they wait, and all that they need has completed. `states` maps
  names to states (`waiting running completed failed cancelled`).
  """
  @spec ready(t, %{String.t() => String.t()}) :: [Stage.t()]
  def ready(%__MODULE__{stages: stages}, states) do
    for %Stage{name: name, needs: needs} = stage <- stages,
        states[name] == "waiting",
        Enum.all?(needs, &(states[&1] == "completed")),
        do: stage
  end

  @doc "The stages that wait for one that has failed, and so never start, with its name."
  @spec blocked(t, %{String.t() => String.t()}) :: [{Stage.t(), failed :: String.t()}]
  def blocked(%__MODULE__{stages: stages}, states) do
    for %Stage{name: name, needs: needs} = stage <- stages,
        states[name] == "waiting",
        failed = Enum.find(needs, &(states[&1] in ["failed", "cancelled"])),
        do: {stage, failed}
  end

  @doc """
  The job request of a stage, with references replaced: by the text of an output in `params`, by
  its artifact in `inputs`. `outputs` maps `<stage>.<output>` to outputs (docs/api.md).
  """
  @spec job_request(t, Stage.t(), %{String.t() => map}) :: {:ok, map} | {:error, Error.t()}
  def job_request(%__MODULE__{inputs: given}, %Stage{} = stage, outputs) do
    lookup = fn key ->
      fn
        {:input, name}, _path -> {:ok, Map.fetch!(given, name)}
        {:stage, from, output}, path -> output_value(outputs["#{from}.#{output}"], key, path)
      end
    end

    with {:ok, params} <- Reference.replace(stage.params, path(stage, "params"), lookup.("text")),
         {:ok, inputs} <-
           Reference.replace(stage.inputs, path(stage, "inputs"), lookup.("artifact")) do
      request = %{"task" => stage.task, "params" => params, "inputs" => inputs}
      {:ok, if(stage.model, do: Map.put(request, "model", stage.model), else: request)}
    end
  end

  defp output_value(nil, _key, path) do
    {:error, Error.new("invalid_value", "The stage has no such output.", field: path)}
  end

  defp output_value(output, key, path) do
    case output do
      %{^key => value} when value != nil ->
        {:ok, value}

      _other ->
        message = "The output #{output["name"]} has no #{key}; params take texts, inputs files."
        {:error, Error.new("invalid_value", message, field: path, value: output["media_type"])}
    end
  end

  defp given_stages(%{"pipeline" => nil, "stages" => nil}) do
    message = "A pipeline needs either its name in pipeline or a list of stages."
    {:error, Error.new("missing_field", message, field: "stages")}
  end

  defp given_stages(%{"pipeline" => name, "stages" => nil}), do: Story.stages(name)

  defp given_stages(%{"pipeline" => nil, "stages" => stages}) do
    if length(stages) in 1..@max_stages do
      {:ok, stages}
    else
      message = "A pipeline has 1 to #{@max_stages} stages."
      details = [field: "stages", value: length(stages), bound: "1..#{@max_stages}"]
      {:error, Error.new("out_of_bounds", message, details)}
    end
  end

  defp given_stages(_both) do
    message = "A pipeline has either a name or stages, not both."
    {:error, Error.new("invalid_value", message, field: "stages")}
  end

  defp stage({given, index}) when not is_map(given) do
    message = "A stage must be an object."
    {:error, Error.new("wrong_type", message, field: "stages[#{index}]", value: given)}
  end

  defp stage({given, index}) do
    with {:ok, checked} <- Params.check(given, @stage),
         :ok <- check_name(checked["name"]) do
      {:ok,
       %Stage{
         name: checked["name"],
         task: checked["task"],
         model: checked["model"],
         params: checked["params"],
         inputs: checked["inputs"]
       }}
    else
      {:error, error} -> {:error, %Error{error | field: "stages[#{index}].#{error.field}"}}
    end
  end

  defp check_name("input"), do: bad_name("input", "The name input is kept for references.")

  defp check_name(name) do
    if name =~ @name,
      do: :ok,
      else: bad_name(name, "A name has 1 to 32 characters a-z, 0-9, _ and begins with a letter.")
  end

  defp bad_name(name, message) do
    {:error, Error.new("invalid_value", message, field: "name", value: name)}
  end

  defp check_unique(stages) do
    names = Enum.map(stages, & &1.name)

    case names -- Enum.uniq(names) do
      [] -> :ok
      [name | _] -> bad_name(name, "Two stages have the same name.")
    end
  end

  defp override(stages, params) do
    names = Enum.map(stages, & &1.name)

    with :ok <- check_overrides(params, names) do
      {:ok, Enum.map(stages, &%Stage{&1 | params: Map.merge(&1.params, params[&1.name] || %{})})}
    end
  end

  defp check_overrides(params, names) do
    Enum.find_value(params, :ok, fn {name, values} ->
      cond do
        name not in names ->
          message = "There is no stage of this name; stages are #{Enum.join(names, ", ")}."
          {:error, Error.new("unknown_field", message, field: "params.#{name}")}

        not is_map(values) ->
          message = "The parameters of a stage must be an object."
          {:error, Error.new("wrong_type", message, field: "params.#{name}", value: values)}

        true ->
          nil
      end
    end)
  end

  # Checks the task of a stage and everything it refers to, and notes what it needs.
  defp link(%Stage{} = stage, stages, inputs, tasks) do
    with :ok <- check_task(stage, tasks),
         {:ok, references} <- references(stage),
         {:ok, _} <- Each.map(references, &check_reference(&1, stages, inputs, tasks)) do
      needs = for {_path, {:stage, name, _output}} <- references, uniq: true, do: name
      {:ok, %Stage{stage | needs: needs}}
    end
  end

  defp references(stage) do
    with {:ok, params} <- Reference.find(stage.params, path(stage, "params")),
         {:ok, inputs} <- Reference.find(stage.inputs, path(stage, "inputs")),
         do: {:ok, params ++ inputs}
  end

  defp check_task(_stage, nil), do: :ok

  defp check_task(%Stage{task: task} = stage, tasks) do
    if is_map_key(tasks, task) do
      :ok
    else
      known = tasks |> Map.keys() |> Enum.sort() |> Enum.join(", ")
      message = "There is no task of this name; known are #{known}."
      {:error, Error.new("unknown_task", message, field: path(stage, "task"), value: task)}
    end
  end

  defp check_reference({path, {:input, name}}, _stages, inputs, _tasks) do
    if is_map_key(inputs, name) do
      {:ok, nil}
    else
      message = "The pipeline needs the input #{name}, which #{path} refers to."
      {:error, Error.new("missing_field", message, field: "inputs.#{name}")}
    end
  end

  defp check_reference({path, {:stage, name, output}}, stages, _inputs, tasks) do
    case Enum.find(stages, &(&1.name == name)) do
      nil ->
        names = Enum.map_join(stages, ", ", & &1.name)
        message = "There is no stage #{name}; stages are #{names}."
        {:error, Error.new("invalid_value", message, field: path, value: "#{name}.#{output}")}

      stage ->
        check_output(path, stage, output, tasks && tasks[stage.task])
    end
  end

  defp check_output(_path, _stage, _output, nil), do: {:ok, nil}

  # Several results of one kind are called image, image_2, ...: how many is not known before.
  defp check_output(path, stage, output, known) do
    if String.replace(output, ~r/_[0-9]+\z/, "") in known do
      {:ok, nil}
    else
      names = Enum.join(known, ", ")
      message = "The task #{stage.task} has no output #{output}; it has #{names}."
      details = [field: path, value: "#{stage.name}.#{output}", bound: names]
      {:error, Error.new("invalid_value", message, details)}
    end
  end

  defp check_inputs_used(stages, inputs) do
    {:ok, per_stage} = Each.map(stages, &references/1)
    used = for {_path, {:input, name}} <- List.flatten(per_stage), do: name

    case Map.keys(inputs) -- used do
      [] ->
        :ok

      [name | _] ->
        message = "No stage refers to the input #{name}; used are #{Enum.join(used, ", ")}."
        {:error, Error.new("unknown_field", message, field: "inputs.#{name}")}
    end
  end

  # Kahn's algorithm, whole layers at a time; what is left over lies on a cycle or behind one.
  defp order(stages), do: order(stages, [])
  defp order([], ordered), do: {:ok, ordered}

  defp order(stages, ordered) do
    done = Enum.map(ordered, & &1.name)

    case Enum.split_with(stages, &(&1.needs -- done == [])) do
      {[], rest} ->
        names = Enum.map_join(rest, ", ", & &1.name)
        message = "These stages need one another: #{names}."
        {:error, Error.new("invalid_value", message, field: "stages", value: names)}

      {next, rest} ->
        order(rest, ordered ++ next)
    end
  end

  defp path(stage, part), do: "stages.#{stage.name}.#{part}"
end
