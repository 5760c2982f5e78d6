defmodule Koma.Options.Environment do
  @moduledoc """
  Reads the options from environment variables, by `Koma.Options.Table`: `config/runtime.exs` calls
  this once. What cannot be read is told in one sentence that names the variable, its value and what
  is allowed; then the server does not start.
  """

  alias Koma.Options
  alias Koma.Options.Table

  @levels ~w(debug info notice warning error critical none)

  # Variables that are no options of the table: of the model nodes here, and of the commands, tests and
  # tools around the server, which may share its environment.
  @models ~w(KOMA_MODELS KOMA_MODELS_FILE KOMA_CHECKPOINT)
  @others ~w(KOMA_LOG_LEVEL KOMA_SERVER KOMA_API_KEY KOMA_HOME KOMA_REPAIR KOMA_WRITE_DOCS
    KOMA_SOAK_SCALE KOMA_SOAK_INSIDE KOMA_BENCH_ROWS KOMA_MEASURE KOMA_SPRITES KOMA_EBIN
    KOMA_PROVENANCE_SETTINGS KOMA_URL KOMA_WS KOMA_HTTP KOMA_CLIP)

  @type variables :: %{String.t() => String.t()}

  @doc """
  The options that the variables set, with the model nodes; `root` is the folder of the server.
  Writes the sentence of a mistake to the standard error and ends the BEAM with status 1.
  """
  @spec read!(variables, root :: Path.t()) :: keyword
  def read!(variables, root) do
    case read(variables, root) do
      {:ok, options} -> options
      {:error, sentence} -> give_up(sentence)
    end
  end

  @doc "As `read!/2`, without an end of the BEAM."
  @spec read(variables, root :: Path.t()) :: {:ok, keyword} | {:error, String.t()}
  def read(variables, root) do
    with {:ok, given} <- given(variables),
         roles = Keyword.get(given, :roles, [:gateway, :worker]),
         {:ok, models} <- models(variables, root, roles) do
      # A peer that only works has no jobs of its own to keep.
      given = if :gateway in roles, do: given, else: Keyword.delete(given, :redis)
      {:ok, defaults(root) |> Keyword.merge(given) |> Keyword.put(:models, models)}
    end
  end

  defp defaults(root) do
    [
      data_dir: Path.join(root, "data"),
      python: Path.join(root, ".venv/bin/python"),
      python_path: Path.join(root, "python_nodes")
    ]
  end

  @doc "The level of the log; ends the BEAM like `read!/2` for one that there is not."
  @spec log_level!(variables) :: Logger.level() | :none
  def log_level!(variables) do
    case Map.get(variables, "KOMA_LOG_LEVEL", "info") do
      level when level in @levels ->
        String.to_atom(level)

      other ->
        give_up(~s(KOMA_LOG_LEVEL is "#{other}"; it must be one of #{Enum.join(@levels, ", ")}.))
    end
  end

  @doc "A sentence for each variable `KOMA_…` that nothing reads, with the nearest one that something does."
  @spec misspelt(variables) :: [String.t()]
  def misspelt(variables) do
    known = @models ++ @others ++ Enum.map(Keyword.keys(Table.all()), &Table.variable/1)

    for "KOMA_" <> _rest = name <- Enum.sort(Map.keys(variables)), name not in known do
      nearest = Enum.max_by(known, &String.jaro_distance(&1, name))
      "#{name} is set, and nothing reads it; did you mean #{nearest}?"
    end
  end

  @spec give_up(String.t()) :: no_return
  defp give_up(sentence) do
    IO.puts(:stderr, "koma: " <> sentence)
    System.halt(1)
  end

  # --- one option after the other

  defp given(variables) do
    Enum.reduce_while(Table.all(), {:ok, []}, fn {key, {kind, _default, _sentence}},
                                                 {:ok, given} ->
      variable = Table.variable(key)

      with text when text != nil and key != :models <- Map.get(variables, variable),
           {:ok, value} <- parse(kind, text),
           {:ok, _checked} <- Options.check(key, value) do
        {:cont, {:ok, [{key, value} | given]}}
      else
        {:error, _reason} -> {:halt, {:error, wrong(variable, variables[variable], kind)}}
        _unset -> {:cont, {:ok, given}}
      end
    end)
  end

  # A secret is not repeated.
  defp wrong(variable, text, kind) do
    "#{variable} is #{shown(kind, text)}; it must be #{allowed(kind)}."
  end

  defp shown(:redis, _url), do: "no such address"
  defp shown(_kind, text), do: Koma.Shown.text(text)

  @doc "What a variable of an option may hold, in words."
  @spec allowed(Table.kind()) :: String.t()
  def allowed({_integer, low, nil}), do: "a whole number of at least #{low}"
  def allowed({_integer, low, high}), do: "a whole number from #{low} to #{high}"
  def allowed(:boolean), do: "`on` or `off`"
  def allowed(:strings), do: "a list with commas"
  def allowed(:path), do: "a folder"
  def allowed(:command), do: "a command with its arguments"
  def allowed(:redis), do: "a URL `redis://user:password@host:port/database`"
  def allowed(:roles), do: "`gateway`, `worker` or `gateway,worker`"
  def allowed(:ports), do: "one port or a range `low-high` of ports from 1 to 65535"
  def allowed(:marks), do: "`invisible`, `signed`, `invisible,signed` or `off`"
  def allowed(_string), do: "text"

  defp parse({_integer, _low, _high}, text) do
    case Integer.parse(String.trim(text)) do
      {number, ""} -> {:ok, number}
      _other -> {:error, :no_number}
    end
  end

  defp parse(:boolean, text) do
    case String.downcase(String.trim(text)) do
      on when on in ~w(on true yes 1) -> {:ok, true}
      off when off in ~w(off false no 0) -> {:ok, false}
      _other -> {:error, :neither}
    end
  end

  defp parse(:strings, text), do: {:ok, list(text)}
  defp parse(:roles, text), do: names(list(text), ~w(gateway worker))
  defp parse(:marks, "off"), do: {:ok, []}
  defp parse(:marks, text), do: names(list(text), ~w(invisible signed))

  defp parse(:command, text) do
    {:ok, OptionParser.split(text)}
  rescue
    # A quotation mark without its second one.
    error in RuntimeError -> {:error, error.message}
  end

  defp parse(:ports, text) do
    case Enum.map(String.split(text, "-"), &Integer.parse(String.trim(&1))) do
      [{port, ""}] -> {:ok, {port, port}}
      [{low, ""}, {high, ""}] -> {:ok, {low, high}}
      _other -> {:error, :no_range}
    end
  end

  # A relative path is one of the folder in which the server was started.
  defp parse(:path, text), do: {:ok, Path.expand(text)}
  defp parse(_string, text), do: {:ok, text}

  defp list(text),
    do:
      text
      |> String.split(",", trim: true)
      |> Enum.map(&String.trim/1)
      |> Enum.reject(&(&1 == ""))

  defp names(given, known) do
    if given != [] and given -- known == [],
      do: {:ok, Enum.map(given, &String.to_existing_atom/1)},
      else: {:error, :unknown}
  end

  # --- model nodes

  defp models(variables, root, roles) do
    if :worker in roles do
      file = Map.get(variables, "KOMA_MODELS_FILE", Path.join(root, "config/models.exs"))

      with {:ok, entries} <- entries(file),
           {:ok, chosen} <- chosen(entries, Map.get(variables, "KOMA_MODELS", "all")),
           named = with_checkpoint(chosen, variables["KOMA_CHECKPOINT"]),
           {:ok, _specs} <- specs(named, file),
           do: {:ok, named}
    else
      {:ok, []}
    end
  end

  defp entries(file) do
    {entries, _bindings} = Code.eval_file(file)
    if maps?(entries), do: {:ok, entries}, else: {:error, no_list(file)}
  rescue
    File.Error -> {:error, "#{file}, the file with the model nodes, cannot be read."}
    Code.LoadError -> {:error, "#{file}, the file with the model nodes, cannot be read."}
    error -> {:error, "#{file} cannot be read as Elixir: #{Exception.message(error)}"}
  catch
    _kind, _value -> {:error, no_list(file)}
  end

  defp maps?(entries) do
    is_list(entries) and entries != [] and Enum.all?(entries, &match?(%{family: _, name: _}, &1))
  end

  defp no_list(file), do: "#{file} must be a list of model nodes, each with a name and a family."

  defp chosen(entries, "all"), do: {:ok, entries}

  defp chosen(entries, list) do
    Enum.reduce_while(list(list), {:ok, []}, fn item, {:ok, chosen} ->
      case one(entries, String.split(item, ":")) do
        {:ok, entry} -> {:cont, {:ok, chosen ++ [entry]}}
        :error -> {:halt, {:error, wrong_models(list)}}
      end
    end)
  end

  defp one(entries, [family]) when family != "", do: {:ok, entry(entries, family)}

  defp one(entries, [family, count]) when family != "" do
    case Integer.parse(count) do
      {count, ""} when count > 0 -> {:ok, Map.put(entry(entries, family), :count, count)}
      _other -> :error
    end
  end

  defp one(_entries, _other), do: :error

  # A family that the file does not name is one of whatever package that is installed.
  defp entry(entries, family) do
    other = %{name: family, family: family, checkpoint: "default", count: 1, slots: 8}
    Enum.find(entries, other, &(&1.family == family))
  end

  defp wrong_models(list) do
    ~s(KOMA_MODELS is "#{list}"; it must be "all", or families with an optional count, e.g. "toy:2,amused".)
  end

  defp with_checkpoint(entries, nil), do: entries
  defp with_checkpoint(entries, name), do: Enum.map(entries, &Map.put(&1, :checkpoint, name))

  defp specs(entries, file) do
    with {:error, reason} <- Options.check(:models, entries), do: {:error, "#{file}: #{reason}."}
  end
end
