defmodule Koma.Options do
  @moduledoc """
  The options of one gateway: a checked struct, made once at start.

  What there is, with bounds, defaults and meanings, is in `Koma.Options.Table`; the environment is
  read by `Koma.Options.Environment`.
  """

  alias Koma.ModelNode.Spec
  alias Koma.Options.Table

  defstruct for {key, {_kind, default, _sentence}} <- Table.all(), do: {key, default}

  @type t :: %__MODULE__{
          port: :inet.port_number(),
          bind: String.t(),
          port_file: String.t() | nil,
          edge: boolean,
          header_timeout_ms: pos_integer,
          max_connections: pos_integer | nil,
          max_connections_per_address: pos_integer | nil,
          max_guests: pos_integer,
          max_upload_bytes: pos_integer,
          keys_file: String.t() | nil,
          keys: String.t() | nil,
          open: boolean,
          origins: [String.t()],
          secret: String.t() | nil,
          node: String.t() | nil,
          cookie: String.t() | nil,
          cookie_file: String.t() | nil,
          roles: [:gateway | :worker, ...],
          peers: [String.t()],
          peers_dns: String.t() | nil,
          dist_ports: {:inet.port_number(), :inet.port_number()},
          tick_s: pos_integer,
          data_dir: String.t(),
          retention_jobs: non_neg_integer,
          retention_ms: non_neg_integer,
          retention_bytes: non_neg_integer,
          grace_ms: non_neg_integer,
          collect_ms: pos_integer,
          share_results: boolean,
          cache_bytes: non_neg_integer,
          journal_bytes: pos_integer,
          redis: Koma.Redis.Address.t() | nil,
          redis_timeout_ms: pos_integer,
          lease_ms: pos_integer,
          queue_limit: pos_integer,
          queue_budget_ms: pos_integer,
          queue_update_ms: pos_integer,
          absence_ms: non_neg_integer,
          max_attempts: pos_integer,
          drain_ms: non_neg_integer,
          python: String.t(),
          python_path: String.t(),
          node_command: [String.t(), ...] | nil,
          models: [Spec.t()],
          hello_timeout_ms: pos_integer,
          load_timeout_ms: pos_integer,
          ping_interval_ms: pos_integer,
          ping_timeout_ms: pos_integer,
          hang_timeout_ms: pos_integer,
          restart_min_ms: pos_integer,
          restart_max_ms: pos_integer,
          marks: [:invisible | :signed],
          provenance_dir: String.t() | nil,
          sign_chain: String.t() | nil,
          sign_key: String.t() | nil,
          timestamps: String.t() | nil,
          marks_prompts: boolean
        }

  @doc "Checks every option; the message of an error names the key and suggests the nearest one."
  @spec new(keyword) :: {:ok, t} | {:error, String.t()}
  def new(given) do
    Enum.reduce_while(given, {:ok, %__MODULE__{}}, fn {key, value}, {:ok, options} ->
      with {:ok, checked} <- check(key, value) do
        {:cont, {:ok, Map.put(options, key, checked)}}
      else
        {:error, reason} -> {:halt, {:error, "option #{key}: #{reason}"}}
      end
    end)
  end

  @doc "As `new/1`; raises `ArgumentError`."
  @spec new!(keyword) :: t
  def new!(given) do
    case new(given) do
      {:ok, options} -> options
      {:error, message} -> raise ArgumentError, message
    end
  end

  @doc "Makes `options` those of this peer."
  @spec put(t) :: :ok
  def put(%__MODULE__{} = options), do: :persistent_term.put(__MODULE__, options)

  @doc "The options of this peer."
  @spec get() :: t
  def get, do: :persistent_term.get(__MODULE__)

  @doc "Checks one option; the reason of an error is part of a sentence."
  @spec check(atom, term) :: {:ok, checked :: term} | {:error, reason :: String.t()}
  def check(key, value) do
    case Keyword.fetch(Table.all(), key) do
      {:ok, {kind, _default, _sentence}} -> fits(kind, value)
      :error -> {:error, "unknown; did you mean #{nearest(key)}?"}
    end
  end

  defp nearest(key) do
    Table.all()
    |> Keyword.keys()
    |> Enum.max_by(&String.jaro_distance(to_string(&1), to_string(key)))
  end

  defp fits({:integer, low, high}, value) do
    if is_integer(value) and value >= low and (high == nil or value <= high),
      do: {:ok, value},
      else: {:error, "#{inspect(value)} is not an integer in #{low}..#{high || "∞"}"}
  end

  defp fits(:string, value) when is_binary(value), do: {:ok, value}
  # Model nodes get such paths, and they may run in another folder.
  defp fits(:path, value) when is_binary(value) do
    {:ok, Path.expand(value)}
  end

  defp fits({:optional_integer, _low, _high}, nil), do: {:ok, nil}
  defp fits({:optional_integer, low, high}, value), do: fits({:integer, low, high}, value)

  defp fits(:optional_string, nil), do: {:ok, nil}
  defp fits(:optional_string, v) when is_binary(v), do: {:ok, v}
  defp fits(:boolean, value) when is_boolean(value), do: {:ok, value}
  defp fits(:command, nil), do: {:ok, nil}

  defp fits(:command, [_ | _] = command) do
    if Enum.all?(command, &is_binary/1),
      do: {:ok, command},
      else: {:error, "#{inspect(command)} is not a list of strings"}
  end

  defp fits(:strings, list) when is_list(list) do
    if Enum.all?(list, &is_binary/1),
      do: {:ok, list},
      else: {:error, "#{inspect(list)} is not a list of strings"}
  end

  defp fits(:redis, nil), do: {:ok, nil}

  defp fits(:redis, url) when is_binary(url) do
    Koma.Redis.Address.parse(url)
  end

  defp fits(:roles, [_ | _] = roles) do
    case roles -- [:gateway, :worker] do
      [] -> {:ok, roles}
      [unknown | _] -> {:error, "#{inspect(unknown)} is not gateway, worker or both"}
    end
  end

  defp fits(:marks, marks) when is_list(marks) do
    case marks -- [:invisible, :signed] do
      [] -> {:ok, marks}
      [unknown | _] -> {:error, "#{inspect(unknown)} is not invisible or signed"}
    end
  end

  defp fits(:ports, {low, high})
       when low in 1..65_535 and high in low..65_535,
       do: {:ok, {low, high}}

  defp fits(:models, entries) when is_list(entries) do
    Spec.from_entries(entries)
  end

  defp fits(kind, value), do: {:error, "#{inspect(value)} is not a #{kind}"}
end
