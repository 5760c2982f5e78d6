defmodule Koma.Pipeline.Reference do
  @moduledoc """
  References inside of the parameters and inputs of stages: `{"from": "<stage>.<output>"}` and
  `{"from": "input.<name>"}`, at any depth. Pure.
  """

  alias Koma.Error

  @type source :: {:stage, stage :: String.t(), output :: String.t()} | {:input, String.t()}
  @type path :: String.t()

  @doc "Every reference in a value, with the path to it; `path` is that of the value."
  @spec find(term, path) :: {:ok, [{path, source}]} | {:error, Error.t()}
  def find(%{"from" => from} = value, path) when map_size(value) == 1 do
    with {:ok, source} <- parse(from, path), do: {:ok, [{path, source}]}
  end

  def find(value, path) when is_map(value) do
    collect(value, fn {name, item} -> find(item, "#{path}.#{name}") end)
  end

  def find(value, path) when is_list(value) do
    value
    |> Enum.with_index()
    |> collect(fn {item, index} -> find(item, "#{path}[#{index}]") end)
  end

  def find(_scalar, _path), do: {:ok, []}

  @doc "The value with every reference replaced by what `lookup` finds for it."
  @spec replace(value, path, (source, path -> {:ok, term} | {:error, Error.t()})) ::
          {:ok, value} | {:error, Error.t()}
        when value: term
  def replace(%{"from" => from} = value, path, lookup) when map_size(value) == 1 do
    with {:ok, source} <- parse(from, path), do: lookup.(source, path)
  end

  def replace(value, path, lookup) when is_map(value) do
    Enum.reduce_while(value, {:ok, %{}}, fn {name, item}, {:ok, done} ->
      case replace(item, "#{path}.#{name}", lookup) do
        {:ok, item} -> {:cont, {:ok, Map.put(done, name, item)}}
        {:error, error} -> {:halt, {:error, error}}
      end
    end)
  end

  def replace(value, path, lookup) when is_list(value) do
    indexed = Map.new(Enum.with_index(value), fn {item, index} -> {index, item} end)

    with {:ok, done} <- replace(indexed, path, lookup) do
      {:ok, Enum.map(0..(map_size(done) - 1)//1, &Map.fetch!(done, &1))}
    end
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

  defp collect(items, find) do
    Enum.reduce_while(items, {:ok, []}, fn item, {:ok, found} ->
      case find.(item) do
        {:ok, more} -> {:cont, {:ok, found ++ more}}
        {:error, error} -> {:halt, {:error, error}}
      end
    end)
  end
end
