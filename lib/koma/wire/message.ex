defmodule Koma.Wire.Message do
  @moduledoc """
  The types of message fields, and the macro that makes one struct of a message's row.

  | type | value |
  |---|---|
  | `:str` `:bin` `:number` `:bool` `:map` `:any` | as docs/wire.md says |
  | `:int` `:positive` | an integer from 0, from 1 |
  | `{:nullable, type}` | that type or nil |
  | `{:list, type}` | a list of that type |
  | `{:map_of, type}` | a map from strings to that type |
  | `{:one_of, strings}` | one of them |
  | `{:record, fields}` | a map with exactly typed fields |
  """

  alias Koma.Each

  @type field_type ::
          :str
          | :bin
          | :int
          | :positive
          | :number
          | :bool
          | :map
          | :any
          | {:nullable, field_type}
          | {:list, field_type}
          | {:map_of, field_type}
          | {:one_of, [String.t()]}
          | {:record, keyword(field_type)}

  @doc "Defines the struct of one message: `message(Ping, \"ping\", seq: :int)`."
  defmacro message(name, type, fields \\ []) do
    quote bind_quoted: [name: name, type: type, fields: fields] do
      module = Module.concat(__MODULE__, name)

      defmodule module do
        @moduledoc "The message `#{type}` of docs/wire.md."
        @enforce_keys for {key, kind} <- fields, not match?({:nullable, _}, kind), do: key
        defstruct Keyword.keys(fields)
        @type t :: %__MODULE__{}
      end

      @messages {module, type, fields}
    end
  end

  @doc "Checks a decoded value against a type; the reason names the field."
  @spec check(field_type, term, String.t()) :: {:ok, term} | {:error, String.t()}
  def check(:any, value, _field), do: {:ok, value}
  def check(:str, value, _field) when is_binary(value), do: {:ok, value}
  def check(:bin, {:bin, bytes}, _field), do: {:ok, bytes}
  def check(:int, value, _field) when is_integer(value) and value >= 0, do: {:ok, value}
  def check(:positive, value, _field) when is_integer(value) and value >= 1, do: {:ok, value}
  def check(:number, value, _field) when is_number(value), do: {:ok, value}
  def check(:bool, value, _field) when is_boolean(value), do: {:ok, value}
  def check(:map, value, _field) when is_map(value), do: {:ok, value}
  def check({:nullable, _type}, nil, _field), do: {:ok, nil}
  def check({:nullable, type}, value, field), do: check(type, value, field)

  def check({:one_of, allowed} = type, value, field) do
    if value in allowed, do: {:ok, value}, else: wrong(type, value, field)
  end

  def check({:list, type}, values, field) when is_list(values) do
    values
    |> Enum.with_index()
    |> Each.map(fn {value, index} -> check(type, value, "#{field}[#{index}]") end)
  end

  def check({:map_of, type}, map, field) when is_map(map) do
    with {:ok, pairs} <-
           Each.map(map, fn {key, value} ->
             with {:ok, value} <- check(type, value, "#{field}.#{key}"), do: {:ok, {key, value}}
           end) do
      {:ok, Map.new(pairs)}
    end
  end

  def check({:record, fields}, map, field) when is_map(map) do
    with {:ok, pairs} <- record(fields, map, field <> "."), do: {:ok, Map.new(pairs)}
  end

  def check(type, value, field), do: wrong(type, value, field)

  @doc "Checks every field of a map, by their string names; returns pairs with atom keys."
  @spec record(keyword(field_type), map, String.t()) :: {:ok, keyword} | {:error, String.t()}
  def record(fields, map, prefix \\ "") do
    Each.map(fields, fn {key, type} ->
      name = Atom.to_string(key)

      with {:ok, value} <- present(map, name, type, prefix),
           {:ok, value} <- check(type, value, prefix <> name) do
        {:ok, {key, value}}
      end
    end)
  end

  @doc "The map of a struct or record for the codec: string keys, bytes marked as such."
  @spec dump(field_type, term) :: Koma.Wire.Msgpack.value()
  def dump(:bin, bytes), do: {:bin, bytes}
  def dump({:nullable, _type}, nil), do: nil
  def dump({:nullable, type}, value), do: dump(type, value)
  def dump({:list, type}, values), do: Enum.map(values, &dump(type, &1))

  def dump({:map_of, type}, map),
    do: Map.new(map, fn {key, value} -> {key, dump(type, value)} end)

  def dump({:record, fields}, map) do
    for {key, type} <- fields, into: %{} do
      {Atom.to_string(key), dump(type, Map.get(map, key))}
    end
  end

  def dump(_type, value), do: value

  defp present(map, name, type, prefix) do
    case map do
      %{^name => value} -> {:ok, value}
      %{} when elem(type, 0) == :nullable -> {:ok, nil}
      %{} -> {:error, "field #{prefix}#{name} is missing"}
    end
  end

  defp wrong(type, value, field) do
    shown = inspect(value, limit: 5, printable_limit: 60)
    {:error, "field #{field} is not #{inspect(type, limit: 5)}: #{shown}"}
  end
end
