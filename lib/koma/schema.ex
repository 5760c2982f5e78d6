defmodule Koma.Schema do
  @moduledoc """
  Checks the parameters of a job against the JSON Schema that its runner declared.

  Of JSON Schema (draft 2020-12) this knows what runners send: `type` (also a list of types),
  `properties`, `required`, `additionalProperties: false`, `minimum`, `maximum`,
  `exclusiveMinimum`, `exclusiveMaximum`, `multipleOf`, `minLength`, `maxLength`, `enum`,
  `const`, `default`, `items`, `minItems`, `maxItems`, `anyOf`, `not` of a gap between two exclusive bounds, and
  `$ref` into `$defs`. Other
  keywords are left to the runner, which checks again. A number without a fraction counts as an
  integer, as in JSON Schema.
  """

  alias Koma.{Each, Error, Shown}

  @types %{
    "string" => "a string",
    "integer" => "an integer",
    "number" => "a number",
    "boolean" => "true or false",
    "null" => "null",
    "array" => "a list",
    "object" => "an object"
  }

  @doc """
  Returns the parameters with defaults filled in, or the first error with field, value and bound.

  Unknown fields are looked at first, because a misspelt field also looks like a missing one.
  """
  @spec check(schema :: map, params :: term) :: {:ok, map} | {:error, Error.t()}
  def check(schema, params), do: object(params, schema, schema, nil)

  @doc "The schema of one property with its `$ref` followed, or nil."
  @spec property(schema :: map, String.t()) :: map | nil
  def property(schema, name) do
    case get_in(schema, ["properties", name]) do
      nil -> nil
      property -> resolve(property, schema)
    end
  end

  @doc "The inclusive upper bound of an integer property, also inside `anyOf`; nil without one."
  @spec maximum(map) :: number | nil
  def maximum(schema) do
    Enum.find_value([schema | Map.get(schema, "anyOf", [])], & &1["maximum"])
  end

  @doc "Of `known`, the name that looks most like `name`, if any does."
  @spec nearest(String.t(), [String.t()]) :: String.t() | nil
  def nearest(name, known) do
    known
    |> Enum.map(&{String.jaro_distance(name, &1), &1})
    |> Enum.max(fn -> {0.0, nil} end)
    |> case do
      {likeness, nearest} when likeness > 0.7 -> nearest
      _unlike -> nil
    end
  end

  defp object(value, schema, _root, path) when not is_map(value) do
    wrong_type(value, path || "params", Map.get(schema, "type", "object"))
  end

  defp object(value, schema, root, path) do
    properties = Map.get(schema, "properties", %{})

    with :ok <- no_unknown(value, properties, schema, path),
         :ok <- none_missing(value, Map.get(schema, "required", []), path) do
      fill(value, properties, root, path)
    end
  end

  defp no_unknown(value, properties, %{"additionalProperties" => false}, path) do
    case Enum.find(Map.keys(value), &(not is_map_key(properties, &1))) do
      nil -> :ok
      name -> unknown(name, value[name], Map.keys(properties), path)
    end
  end

  defp no_unknown(_value, _properties, _schema, _path), do: :ok

  defp unknown(name, value, known, path) do
    field = join(path, name)

    hint =
      case nearest(name, known) do
        nil when known == [] -> "none is taken here"
        nil -> "known are #{Enum.join(Enum.sort(known), ", ")}"
        nearest -> "did you mean #{Shown.text(nearest)}?"
      end

    error("unknown_field", "There is no field #{Shown.text(field)}; #{hint}", field, value, nil)
  end

  defp none_missing(value, required, path) do
    case Enum.find(required, &(not is_map_key(value, &1))) do
      nil ->
        :ok

      name ->
        error(
          "missing_field",
          "The field #{Shown.text(join(path, name))} is required",
          join(path, name),
          nil,
          nil
        )
    end
  end

  defp fill(value, properties, root, path) do
    Enum.reduce_while(properties, {:ok, value}, fn {name, schema}, {:ok, filled} ->
      case property_value(value, name, schema, root, path) do
        :absent -> {:cont, {:ok, filled}}
        {:ok, checked} -> {:cont, {:ok, Map.put(filled, name, checked)}}
        {:error, error} -> {:halt, {:error, error}}
      end
    end)
  end

  defp property_value(value, name, schema, root, path) do
    case {value, schema} do
      {%{^name => given}, _schema} -> value(given, resolve(schema, root), root, join(path, name))
      {_absent, %{"default" => default}} -> {:ok, default}
      {_absent, _none} -> :absent
    end
  end

  defp value(given, %{"anyOf" => options} = schema, root, path) do
    rest = Map.delete(schema, "anyOf")
    options = Enum.map(options, &resolve(&1, root))
    results = Enum.map(options, &value(given, Map.merge(rest, &1), root, path))

    # The most telling error is that of the option whose type fits.
    Enum.find(results, &match?({:ok, _}, &1)) ||
      Enum.find(results, fn {:error, error} -> error.code != "wrong_type" end) ||
      wrong_type(given, path, Enum.map(options, &Map.get(&1, "type", "object")))
  end

  defp value(given, schema, root, path) do
    with {:ok, given} <- typed(given, schema, path),
         :ok <- allowed(given, schema, path),
         :ok <- bounded(given, schema, path),
         :ok <- beside_gap(given, schema, path) do
      inside(given, schema, root, path)
    end
  end

  defp typed(given, %{"type" => types}, path) do
    types = List.wrap(types)

    cond do
      Enum.any?(types, &type?(given, &1)) -> {:ok, given}
      "integer" in types and is_float(given) and trunc(given) == given -> {:ok, trunc(given)}
      true -> wrong_type(given, path, types)
    end
  end

  defp typed(given, _schema, _path), do: {:ok, given}

  defp type?(value, "string"), do: is_binary(value)
  defp type?(value, "integer"), do: is_integer(value)
  defp type?(value, "number"), do: is_number(value)
  defp type?(value, "boolean"), do: is_boolean(value)
  defp type?(value, "null"), do: is_nil(value)
  defp type?(value, "array"), do: is_list(value)
  defp type?(value, "object"), do: is_map(value)
  defp type?(_value, _type), do: false

  defp wrong_type(given, path, types) do
    expected = types |> List.wrap() |> Enum.map_join(" or ", &Map.get(@types, &1, &1))
    error("wrong_type", "#{path} must be #{expected}", path, given, expected)
  end

  defp allowed(given, schema, path) do
    allowed = schema["enum"] || if(is_map_key(schema, "const"), do: [schema["const"]])

    if allowed == nil or given in allowed,
      do: :ok,
      else:
        error("invalid_value", "#{path} must be one of #{list(allowed)}", path, given, allowed)
  end

  defp list(values), do: Enum.map_join(values, ", ", &Shown.text/1)

  @bounds [
    {"minimum", :number, "at least"},
    {"maximum", :number, "at most"},
    {"exclusiveMinimum", :number, "greater than"},
    {"exclusiveMaximum", :number, "less than"},
    {"multipleOf", :number, "a multiple of"},
    {"minLength", :string, "at least"},
    {"maxLength", :string, "at most"},
    {"minItems", :list, "at least"},
    {"maxItems", :list, "at most"}
  ]

  defp bounded(given, schema, path) do
    Enum.find_value(@bounds, :ok, fn {keyword, kind, words} ->
      with bound when bound != nil <- schema[keyword],
           size when size != nil <- size(given, kind),
           false <- holds?(keyword, size, bound) do
        error("out_of_bounds", sentence(path, kind, words, bound, size), path, given, bound)
      else
        _holds -> nil
      end
    end)
  end

  defp beside_gap(
         given,
         %{"not" => %{"exclusiveMinimum" => low, "exclusiveMaximum" => high}},
         path
       )
       when is_number(given) and given > low and given < high do
    wanted = "#{Shown.text(low)} or at least #{Shown.text(high)}"

    error(
      "out_of_bounds",
      "#{path} must be #{wanted}, not #{Shown.text(given)}",
      path,
      given,
      high
    )
  end

  defp beside_gap(_given, _schema, _path), do: :ok

  defp size(given, :number) when is_number(given), do: given
  defp size(given, :string) when is_binary(given), do: given |> String.to_charlist() |> length()
  defp size(given, :list) when is_list(given), do: length(given)
  defp size(_given, _kind), do: nil

  defp holds?("minimum", size, bound), do: size >= bound
  defp holds?("maximum", size, bound), do: size <= bound
  defp holds?("exclusiveMinimum", size, bound), do: size > bound
  defp holds?("exclusiveMaximum", size, bound), do: size < bound
  defp holds?("min" <> _, size, bound), do: size >= bound
  defp holds?("max" <> _, size, bound), do: size <= bound

  defp holds?("multipleOf", size, bound) when is_integer(size) and is_integer(bound) do
    rem(size, bound) == 0
  end

  defp holds?("multipleOf", size, bound) do
    quotient = size / bound
    abs(quotient - round(quotient)) < 1.0e-9
  end

  defp sentence(path, :number, words, bound, size) do
    "#{path} must be #{words} #{Shown.text(bound)}, not #{Shown.text(size)}"
  end

  defp sentence(path, :string, words, bound, size) do
    "#{path} must have #{words} #{bound} characters, not #{size}"
  end

  defp sentence(path, :list, words, bound, size) do
    "#{path} must have #{words} #{bound} elements, not #{size}"
  end

  defp inside(given, schema, root, path) when is_map(given), do: object(given, schema, root, path)

  defp inside(given, %{"items" => items}, root, path) when is_list(given) do
    items = resolve(items, root)

    given
    |> Enum.with_index()
    |> Each.map(fn {element, index} -> value(element, items, root, "#{path}[#{index}]") end)
  end

  defp inside(given, _schema, _root, _path), do: {:ok, given}

  defp resolve(%{"$ref" => "#/$defs/" <> name} = schema, root) do
    root |> get_in(["$defs", name]) |> Kernel.||(%{}) |> Map.merge(Map.delete(schema, "$ref"))
  end

  defp resolve(schema, _root), do: schema

  defp join(nil, name), do: name
  defp join(path, name), do: "#{path}.#{name}"

  defp error(code, message, field, value, bound) do
    {:error, Error.new(code, message, field: field, value: value, bound: bound)}
  end
end
