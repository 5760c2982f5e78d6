defmodule Koma.Pipeline.Reference do
  @moduledoc """
  References inside of the parameters and inputs of stages: `{"from": "<stage>.<output>"}` and
  `{"from": "input.<name>"}`, at any depth. Pure.
  """

  alias Koma.{Each, Error}

  @type source :: {:stage, stage :: String.t(), output :: String.t()} | {:input, String.t()}
  @type path :: String.t()

  @doc "Every reference in a value, with the path to it; `path` is that of the value."
  @spec find(term, path) :: {:ok, [{path, source}]} | {:error, Error.t()}
  def find(%{"from" => from} = value, path) when map_size(value) == 1 do
    with {:ok, source} <- parse(from, path), do: {:ok, [{path, source}]}
  end

  def find(value, path) when is_map(value) do
    value |> Each.map(fn {name, item} -> find(item, "#{path}.#{name}") end) |> concat()
  end

  def find(value, path) when is_list(value) do
    value
    |> Enum.with_index()
    |> Each.map(fn {item, index} -> find(item, "#{path}[#{index}]") end)
    |> concat()
  end

  def find(_scalar, _path), do: {:ok, []}

  defp concat(found), do: with({:ok, lists} <- found, do: {:ok, Enum.concat(lists)})

  @doc "The value with every reference replaced by what `lookup` finds for it."
  @spec replace(value, path, (source, path -> {:ok, term} | {:error, Error.t()})) ::
          {:ok, value} | {:error, Error.t()}
        when value: term
  def replace(%{"from" => from} = value, path, lookup) when map_size(value) == 1 do
    with {:ok, source} <- parse(from, path), do: lookup.(source, path)
  end

  def replace(value, path, lookup) when is_map(value) do
    replaced =
      Each.map(value, fn {name, item} ->
        with {:ok, item} <- replace(item, "#{path}.#{name}", lookup), do: {:ok, {name, item}}
      end)

    with {:ok, done} <- replaced, do: {:ok, Map.new(done)}
  end

  def replace(value, path, lookup) when is_list(value) do
    value
    |> Enum.with_index()
    |> Each.map(fn {item, index} -> replace(item, "#{path}[#{index}]", lookup) end)
  end

  def replace(scalar, _path, _lookup), do: {:ok, scalar}

  defp parse(from, path) when is_binary(from) do
    case String.split(from, ".") do
      ["input", name] when name != "" -> {:ok, {:input, name}}
      [stage, output] when stage != "" and output != "" -> {:ok, {:stage, stage, output}}
      _other -> {:error, malformed(from, path)}
    end
  end

  defp parse(from, path) do
    message = "A reference must be a string."
    {:error, Error.new("wrong_type", message, field: "#{path}.from", value: from)}
  end

  defp malformed(from, path) do
    message = "A reference has the form <stage>.<output> or input.<name>."
    Error.new("invalid_value", message, field: "#{path}.from", value: from)
  end
end
