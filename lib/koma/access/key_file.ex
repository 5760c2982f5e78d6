defmodule Koma.Access.KeyFile do
  @moduledoc """
  The keys as an operator writes them, one key a line: its id, the SHA-256 of its secret (of two
  secrets while one is being replaced), and settings.

      # id    secrets            settings
      studio  sha256:9f86d081…   weight=3 roles=operator
      render  sha256:60303ae2… sha256:fd61a03a…  rate=5 jobs_per_day=1000 stored_bytes=20GiB

  A line is made by `koma keys new`. Secrets have 256 random bits, so that a plain SHA-256 is
  enough: there is nothing to guess that a salt or a slow hash would protect.

  Errors name the line and the setting, never what stands in the place of a digest: somebody may
  have put the secret itself there. Pure.
  """

  alias Koma.Access.{Key, Limits}
  alias Koma.Each

  @id ~r/\A[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\z/
  @digest ~r/\Asha256:([0-9a-f]{64})\z/
  @roles %{"operator" => :operator, "metrics" => :metrics}
  @limits Map.new(Limits.documented(), fn {name, _default, unit, _meaning} ->
            {Atom.to_string(name), {name, unit}}
          end)
  @units %{"" => 1, "KiB" => 1024, "MiB" => 1024 ** 2, "GiB" => 1024 ** 3, "TiB" => 1024 ** 4}
  # Enough for any rate or size, and short of numbers that cost time.
  @amount ~r/\A([1-9][0-9]{0,14})([KMGT]iB)?\z/
  @max_weight 1_000

  @doc "The keys of a text; lines end with a line feed or, in one variable, a semicolon."
  @spec parse(String.t()) :: {:ok, [Key.t()]} | {:error, String.t()}
  def parse(text) do
    text
    |> String.split(["\n", ";"])
    |> Enum.with_index(1)
    |> Enum.map(fn {line, number} -> {words(line), number} end)
    |> Enum.reject(&match?({[], _number}, &1))
    |> Enum.reduce_while({:ok, []}, &line/2)
    |> in_order()
  end

  @doc "The keys, unless two have the same id or the same secret."
  @spec distinct([Key.t()]) :: {:ok, [Key.t()]} | {:error, String.t()}
  def distinct(keys) do
    ids = Enum.map(keys, & &1.id)
    digests = Enum.flat_map(keys, & &1.digests)

    cond do
      twice = List.first(ids -- Enum.uniq(ids)) ->
        {:error, "the key #{twice} has two lines; take one line with two sha256:"}

      digests != Enum.uniq(digests) ->
        {:error, "the same sha256: stands there twice"}

      true ->
        {:ok, keys}
    end
  end

  defp in_order({:ok, keys}), do: {:ok, Enum.reverse(keys)}
  defp in_order(error), do: error

  defp words(line), do: line |> String.split("#", parts: 2) |> hd() |> String.split()

  defp line({[id | rest], number}, {:ok, keys}) do
    {settings, digests} = Enum.split_with(rest, &String.contains?(&1, "="))

    with :ok <- check_id(id),
         {:ok, digests} <- Each.map(digests, &digest/1),
         :ok <- check_some(digests, id),
         {:ok, key} <- settings(settings, %Key{id: id, digests: digests}) do
      {:cont, {:ok, [key | keys]}}
    else
      {:error, reason} -> {:halt, {:error, "line #{number}: #{reason}"}}
    end
  end

  defp check_id(id) do
    if id =~ @id,
      do: :ok,
      else: {:error, "the id of a key has 1 to 64 letters, digits, _ . or -, and no _ . - first"}
  end

  defp digest(word) do
    case Regex.run(@digest, word) do
      [_all, hex] ->
        Base.decode16(hex, case: :lower)

      nil ->
        {:error, "after the id come sha256: and 64 hex digits, as `koma keys new` prints them"}
    end
  end

  defp check_some([], id), do: {:error, "the key #{id} has no sha256:"}
  defp check_some(_digests, _id), do: :ok

  defp settings(words, key) do
    Enum.reduce_while(words, {:ok, key}, fn word, {:ok, key} ->
      [name, value] = String.split(word, "=", parts: 2)

      case setting(name, value, key) do
        {:ok, key} -> {:cont, {:ok, key}}
        {:error, reason} -> {:halt, {:error, reason}}
      end
    end)
  end

  defp setting("roles", value, key) do
    with {:ok, roles} <- value |> String.split(",") |> Each.map(&role/1),
         do: {:ok, %Key{key | roles: roles}}
  end

  defp setting("weight" = name, value, key) do
    with {:ok, weight} when weight in 1..@max_weight <- amount(name, value, nil) do
      {:ok, %Key{key | weight: weight}}
    else
      {:ok, weight} -> {:error, "weight=#{weight} lies outside of 1..#{@max_weight}"}
      error -> error
    end
  end

  # Without tokens to spend nothing would ever be let in.
  defp setting("burst", "none", _key), do: {:error, "burst=none: take rate=none"}

  defp setting(name, value, key) when is_map_key(@limits, name) do
    {field, unit} = @limits[name]

    with {:ok, limit} <- if(value == "none", do: {:ok, nil}, else: amount(name, value, unit)),
         do: {:ok, %Key{key | limits: Map.put(key.limits, field, limit)}}
  end

  defp setting(name, _value, _key) do
    names = ["roles", "weight" | Map.keys(@limits)]
    nearest = Enum.max_by(names, &String.jaro_distance(&1, name))
    {:error, "unknown setting #{inspect(name, printable_limit: 40)}; did you mean #{nearest}?"}
  end

  defp role(name) do
    case @roles do
      %{^name => role} -> {:ok, role}
      _others -> {:error, "roles are #{Enum.join(Map.keys(@roles), ", ")}"}
    end
  end

  defp amount(name, value, unit) do
    case Regex.run(@amount, value) do
      [_all, digits] ->
        {:ok, String.to_integer(digits)}

      [_all, digits, suffix] when unit == :bytes ->
        {:ok, String.to_integer(digits) * @units[suffix]}

      _nil_or_unit ->
        {:error, "#{name} must be #{expected(unit)}"}
    end
  end

  defp expected(:bytes), do: "none or bytes, as 500MiB or 20GiB"
  defp expected(nil), do: "none or a whole number from 1"
end
