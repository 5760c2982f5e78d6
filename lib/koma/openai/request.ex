defmodule Koma.OpenAI.Request do
  @moduledoc """
  From the body of an OpenAI request to the request of a job.

  The parameters of the model are taken from the top level of the body, where the `extra_body` of
  OpenAI's clients puts them; the schema of the task says which they are. Whatever else the body
  has is ignored, because OpenAI's clients send much that no model here knows.
  """

  alias Koma.{Error, ModelNode, Shown}

  # What a job request has beside its parameters.
  @of_job ~w(priority deadline_ms cache idempotency_key)

  @enforce_keys [:job, :spec, :named]
  defstruct [:job, :spec, :named]

  @typedoc """
  The request of a job, what the model nodes declare of its task, and how the client named the
  parameters that Koma calls otherwise.
  """
  @type t :: %__MODULE__{job: map, spec: map, named: %{String.t() => String.t()}}

  @doc """
  The request of a job of `task`. `names` maps fields of OpenAI to the model's own names of them;
  a parameter under its own name wins.
  """
  @spec new(map, task :: String.t(), names :: %{String.t() => String.t()}) ::
          {:ok, t} | {:error, Error.t()}
  def new(body, task, names \\ %{}) do
    body = for {name, value} <- body, value != nil, into: %{}, do: {name, value}

    with :ok <- check_model(body["model"]),
         {:ok, _family, spec} <-
           Koma.ask(fn -> ModelNode.Catalogue.task(task, body["model"]) end) do
      renamed = for {theirs, ours} <- names, is_map_key(body, theirs), do: {ours, theirs}
      params = params(body, spec.params, renamed)

      job =
        body
        |> Map.take(["model" | @of_job])
        |> Map.merge(%{"task" => task, "params" => params})

      {:ok, %__MODULE__{job: job, spec: spec, named: Map.new(renamed)}}
    end
  end

  defp check_model(model) when model == nil or is_binary(model), do: :ok

  defp check_model(model) do
    message = "model must be a string"
    {:error, Error.new("wrong_type", message, field: "model", value: model)}
  end

  defp params(body, schema, renamed) do
    known = Map.keys(schema["properties"] || %{})
    renamed = for {ours, theirs} <- renamed, into: %{}, do: {ours, body[theirs]}
    renamed |> Map.merge(body) |> Map.take(known)
  end

  @doc "Puts a parameter that the client called `theirs`, if the task has it as `name`."
  @spec put(t, name :: String.t(), value :: term, theirs :: String.t()) :: t
  def put(%__MODULE__{job: job, spec: spec, named: named} = request, name, value, theirs) do
    if is_map_key(spec.params["properties"] || %{}, name) do
      named = Map.put(named, name, theirs)
      %{request | job: put_in(job, ["params", name], value), named: named}
    else
      request
    end
  end

  @doc """
  Reads the parameters of a form, whose values are texts, as the numbers and truth values that the
  schema has. Text that is none stays as it is, and is refused as every wrong value.
  """
  @spec read_texts(t) :: t
  def read_texts(%__MODULE__{job: job} = request) do
    params =
      for {name, value} <- job["params"], into: %{} do
        types = request |> property(name) |> types()
        {name, if(is_binary(value), do: typed(value, types), else: value)}
      end

    %{request | job: Map.replace(%{job | "params" => params}, "deadline_ms", deadline(job))}
  end

  defp deadline(job), do: typed(to_string(job["deadline_ms"]), ["integer"])

  defp types(%{"anyOf" => options}), do: Enum.flat_map(options, &types/1)
  defp types(%{"type" => types}), do: List.wrap(types)
  defp types(_untyped), do: []

  defp typed(text, types) do
    cond do
      "string" in types -> text
      "boolean" in types and text in ["true", "false"] -> text == "true"
      "integer" in types or "number" in types -> number(text, Integer.parse(text))
      true -> text
    end
  end

  defp number(_text, {integer, ""}), do: integer

  defp number(text, _no_integer) do
    case Float.parse(text) do
      {float, ""} -> float
      _no_number -> text
    end
  end

  @doc """
  Lowers a parameter to the most that the model can do. For what is itself an upper bound, such as
  the length of an answer: programs ask for more than small models have.
  """
  @spec lower(t, String.t()) :: t
  def lower(%__MODULE__{job: job} = request, name) do
    maximum = Koma.Schema.maximum(property(request, name) || %{})

    case job["params"][name] do
      given when is_integer(given) and is_integer(maximum) and given > maximum ->
        %{request | job: put_in(job, ["params", name], maximum)}

      _within_or_wrong ->
        request
    end
  end

  @doc "An error about a parameter, under the name that the client used."
  @spec renamed(named :: %{String.t() => String.t()}, Error.t()) :: Error.t()
  def renamed(named, %Error{field: field} = error) do
    %Error{error | field: Map.get(named, field, field)}
  end

  @doc "What the schema of the task says of a parameter, if it has it."
  @spec property(t, String.t()) :: map | nil
  def property(%__MODULE__{spec: spec}, name), do: Koma.Schema.property(spec.params, name)

  @doc ~S"""
  Reads `size`, which is `"WIDTHxHEIGHT"`, or `"auto"` for the size that the model paints best.

      iex> Koma.OpenAI.Request.size("64x32")
      {:ok, {64, 32}}
  """
  @spec size(term) :: {:ok, {pos_integer, pos_integer} | nil} | {:error, Error.t()}
  def size(size) when size in [nil, "auto", ""], do: {:ok, nil}

  def size(size) when is_binary(size) do
    case Regex.run(~r/\A([0-9]{1,6})x([0-9]{1,6})\z/, size) do
      [_all, width, height] -> {:ok, {String.to_integer(width), String.to_integer(height)}}
      nil -> bad_size(size)
    end
  end

  def size(other), do: bad_size(other)

  defp bad_size(size) do
    message = ~s(size must be "WIDTHxHEIGHT" or "auto", not #{Shown.text(size)})
    {:error, Error.new("invalid_value", message, field: "size", value: size)}
  end

  @doc "Puts width and height as `size` says them."
  @spec put_size(t, term) :: {:ok, t} | {:error, Error.t()}
  def put_size(request, size) do
    case size(size) do
      {:ok, {width, height}} ->
        {:ok, put(put(request, "width", width, "size"), "height", height, "size")}

      {:ok, nil} ->
        {:ok, request}

      {:error, error} ->
        {:error, error}
    end
  end
end
