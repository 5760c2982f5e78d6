defmodule Koma.Params do
  @moduledoc """
  Checks the fields of a small object that a client sent, against a table of what they may be.

  A table maps each name to `{type, default}`; the default `:required` makes a field one that must
  be there. Types: `:string`, `:boolean`, `:object`, `:list`, `{:integer, low}`, `{:integer, low, high}`, `{:one_of, strings}`.
  (The parameters of tasks are checked by the JSON Schemas of their model nodes instead.)
  """

  alias Koma.{Error, Shown}

  @words %{
    string: "a string",
    boolean: "true or false",
    object: "an object",
    list: "a list",
    integer: "an integer",
    one_of: "a string"
  }

  @type type ::
          :string
          | :boolean
          | :object
          | :list
          | {:integer, low :: integer}
          | {:integer, low :: integer, high :: integer}
          | {:one_of, [String.t()]}
  @type table :: %{String.t() => {type, default :: term | :required}}

  @doc """
  The checked fields with defaults for those absent (or null), or an error that names the field.

  Codes: `wrong_type`, `unknown_field` (with the nearest known name), `missing_field`,
  `out_of_bounds`, `invalid_value`.
  """
  @spec check(term, table) :: {:ok, %{String.t() => term}} | {:error, Error.t()}
  def check(given, table) when is_map(given) do
    with :ok <- check_names(given, table) do
      Enum.reduce_while(table, {:ok, %{}}, fn {name, {type, default}}, {:ok, checked} ->
        case field(name, given[name], type, default) do
          {:ok, value} -> {:cont, {:ok, Map.put(checked, name, value)}}
          {:error, error} -> {:halt, {:error, error}}
        end
      end)
    end
  end

  def check({:binary, _bytes}, table), do: check(:bytes, table)

  def check(_other, _table) do
    {:error, Error.new("wrong_type", "The payload must be a JSON object.", field: "payload")}
  end

  @doc """
  Turns the values of a query string into what `check/2` wants: integers where the table has
  them. Text that is no integer stays as it is and is refused there.
  """
  @spec from_query(%{String.t() => String.t()}, table) :: %{String.t() => term}
  def from_query(query, table) do
    Map.new(query, fn {name, text} ->
      with {type, _default} when elem(type, 0) == :integer <- table[name],
           {number, ""} <- Integer.parse(text) do
        {name, number}
      else
        _as_it_is -> {name, text}
      end
    end)
  end

  defp check_names(given, table) do
    case Enum.find(Map.keys(given), &(not is_map_key(table, &1))) do
      nil -> :ok
      name -> {:error, unknown(shown(name), Map.keys(table))}
    end
  end

  defp unknown(name, []) do
    Error.new("unknown_field", "There is no field #{quoted(name)} here; none is taken.",
      field: name
    )
  end

  defp unknown(name, known) do
    nearest = Enum.max_by(known, &String.jaro_distance(&1, name))

    message = "There is no field #{quoted(name)} here; the nearest one is #{quoted(nearest)}."
    Error.new("unknown_field", message, field: name)
  end

  defp field(name, nil, _type, :required) do
    {:error, Error.new("missing_field", "The field #{quoted(name)} is required.", field: name)}
  end

  defp field(_name, nil, _type, default), do: {:ok, default}
  defp field(_name, value, :string, _default) when is_binary(value), do: {:ok, value}
  defp field(_name, value, :boolean, _default) when is_boolean(value), do: {:ok, value}
  defp field(_name, value, :object, _default) when is_map(value), do: {:ok, value}
  defp field(_name, value, :list, _default) when is_list(value), do: {:ok, value}

  defp field(name, value, {:integer, low}, default) do
    integer(name, value, low, nil, default)
  end

  defp field(name, value, {:integer, low, high}, default) do
    integer(name, value, low, high, default)
  end

  defp field(name, value, {:one_of, allowed}, _default) when is_binary(value) do
    if value in allowed do
      {:ok, value}
    else
      message = "The field #{quoted(name)} must be one of #{Enum.join(allowed, ", ")}."
      details = [field: name, value: value, bound: Enum.join(allowed, ", ")]
      {:error, Error.new("invalid_value", message, details)}
    end
  end

  defp field(name, value, type, _default), do: wrong_type(name, value, type)

  defp integer(name, value, low, high, _default) when is_integer(value) do
    if value >= low and (high == nil or value <= high) do
      {:ok, value}
    else
      bound = if high, do: "#{low}..#{high}", else: ">= #{low}"
      words = if high, do: "from #{low} to #{high}", else: "of at least #{low}"
      message = "The field #{quoted(name)} must be an integer #{words}."
      {:error, Error.new("out_of_bounds", message, field: name, value: value, bound: bound)}
    end
  end

  defp integer(name, value, _low, _high, _default), do: wrong_type(name, value, {:integer})

  defp wrong_type(name, value, type) do
    wanted = if is_tuple(type), do: elem(type, 0), else: type
    message = "The field #{quoted(name)} must be #{@words[wanted]}."
    {:error, Error.new("wrong_type", message, field: name, value: value)}
  end

  defp quoted(name), do: Shown.text(name)

  # A name that somebody sent may be as long as a frame; its beginning is enough.
  defp shown(name), do: String.slice(name, 0, 60)
end
