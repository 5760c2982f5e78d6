defmodule Koma.ModelNode.Spec do
  @moduledoc "What one model node is to serve: one entry of `config/models.exs`, counted out."

  alias Koma.Wire.Msgpack

  @enforce_keys [:name, :family, :checkpoint]
  defstruct [
    :name,
    :family,
    :checkpoint,
    :threads,
    :hang_timeout_ms,
    slots: 1,
    device: "auto",
    dtype: "auto",
    options: %{}
  ]

  @type t :: %__MODULE__{
          name: String.t(),
          family: String.t(),
          checkpoint: String.t(),
          slots: pos_integer,
          threads: pos_integer | nil,
          hang_timeout_ms: pos_integer | nil,
          device: String.t(),
          dtype: String.t(),
          options: %{String.t() => term}
        }

  @required ~w(name family checkpoint)a
  @strings @required ++ ~w(device dtype)a
  @positive ~w(count slots threads hang_timeout_ms)a
  @keys @strings ++ @positive ++ [:options]

  @doc """
  Turns entries into one spec per process, named `name-1`, `name-2`, ….

  Names must differ, and entries of one family must serve the same checkpoint, because the jobs
  of a family share one queue and may run on any of its model nodes.
  """
  @spec from_entries([map | t]) :: {:ok, [t]} | {:error, String.t()}
  def from_entries(entries) do
    with {:ok, specs} <- expand(entries, []),
         :ok <- distinct_names(specs),
         :ok <- one_checkpoint_per_family(specs) do
      {:ok, specs}
    end
  end

  defp expand([], specs), do: {:ok, Enum.reverse(specs)}
  defp expand([%__MODULE__{} = spec | rest], specs), do: expand(rest, [spec | specs])

  defp expand([entry | rest], specs) do
    case check(entry) do
      :ok -> expand(rest, Enum.reverse(counted(entry), specs))
      {:error, reason} -> {:error, "entry #{inspect(entry)}: #{reason}"}
    end
  end

  defp counted(entry) do
    {count, entry} = Map.pop(entry, :count, 1)
    for n <- 1..count, do: struct!(__MODULE__, %{entry | name: "#{entry.name}-#{n}"})
  end

  defp check(entry) do
    with :ok <- none(Map.keys(entry) -- @keys, "unknown keys"),
         :ok <- none(@required -- Map.keys(entry), "misses"),
         :ok <- all(entry, @strings, &is_binary/1, "a string"),
         :ok <- all(entry, @positive, &(is_integer(&1) and &1 > 0), "positive") do
      all(entry, [:options], &travels?/1, "a map with string keys")
    end
  end

  defp none([], _words), do: :ok
  defp none(keys, words), do: {:error, "#{words} #{inspect(keys)}"}

  defp all(entry, keys, allowed?, words) do
    case Enum.find(keys, &(is_map_key(entry, &1) and not allowed?.(entry[&1]))) do
      nil -> :ok
      key -> {:error, "#{key} is not #{words}"}
    end
  end

  # Options go to the model node as they are.
  defp travels?(options) do
    is_map(options) and Msgpack.encode(options) != []
  rescue
    ArgumentError -> false
  end

  defp distinct_names(specs) do
    names = Enum.map(specs, & &1.name)

    case names -- Enum.uniq(names) do
      [] -> :ok
      [name | _] -> {:error, "two model nodes are called #{name}"}
    end
  end

  defp one_checkpoint_per_family(specs) do
    specs
    |> Enum.group_by(& &1.family, & &1.checkpoint)
    |> Enum.find(fn {_family, checkpoints} -> length(Enum.uniq(checkpoints)) > 1 end)
    |> case do
      nil ->
        :ok

      {family, names} ->
        {:error, "family #{family} has several checkpoints: #{inspect(Enum.uniq(names))}"}
    end
  end
end
