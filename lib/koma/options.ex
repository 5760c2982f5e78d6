defmodule Koma.Options do
  @moduledoc """
  The options of one gateway: a checked struct, made once at start.

  `config/runtime.exs` is the only reader of the environment; every other default is here.
  """

  alias Koma.ModelNode.Spec

  @schema [
    # edge
    port: {:integer, 0, 65_535, 4000, "TCP port; 0 for any free one"},
    bind: {:string, "127.0.0.1", "address to listen on"},
    port_file: {:optional_string, nil, "file that gets the port once it listens"},
    edge: {:boolean, true, "whether to listen at all"},
    header_timeout_ms:
      {:integer, 1, nil, 10_000, "from connecting, or the last answer, to a whole head"},
    max_connections:
      {:optional_integer, 1, nil, nil,
       "connections of clients; nil: as many as the file descriptors allow"},
    max_connections_per_address:
      {:optional_integer, 1, nil, nil, "connections from one address; nil: seven of eight"},
    max_upload_bytes: {:integer, 1, nil, 512 * 1024 * 1024, "largest artifact"},
    # access
    keys_file: {:optional_string, nil, "file with the API keys, see Koma.Access.KeyFile"},
    keys: {:optional_string, nil, "the same as text; both may be given"},
    open: {:boolean, false, "whether to listen beyond loopback without keys"},
    origins: {:strings, [], "origins beside the server's own whose pages may use it"},
    secret: {:optional_string, nil, "signs sessions; nil: one that is kept in data_dir"},
    # cluster
    node: {:optional_string, nil, "name@host of this peer; nil: no cluster"},
    cookie: {:optional_string, nil, "secret that all peers share, 16 characters or more"},
    cookie_file: {:optional_string, nil, "file that has it"},
    roles: {:roles, [:gateway, :worker], "what this peer does: serve clients, run model nodes"},
    peers: {:strings, [], "names of peers"},
    peers_dns: {:optional_string, nil, "a DNS name whose A, AAAA or SRV records are the peers"},
    dist_ports: {:ports, {9100, 9199}, "ports of which the distribution takes a free one"},
    tick_s: {:integer, 1, nil, 12, "without a sign of a peer until it is taken for lost"},
    # store
    data_dir: {:path, "data", "folder of jobs and artifacts"},
    retention_jobs: {:integer, 0, nil, 10_000, "finished jobs that stay readable"},
    retention_ms: {:integer, 0, nil, 7 * 24 * 3_600_000, "how long finished jobs stay readable"},
    retention_bytes:
      {:integer, 0, nil, 20 * 1024 * 1024 * 1024, "of artifacts, from which the oldest jobs go"},
    grace_ms: {:integer, 0, nil, 3_600_000, "how long an artifact stays that no job names"},
    collect_ms: {:integer, 1, nil, 300_000, "between two passes of the collector"},
    share_results:
      {:boolean, true, "whether equal requests share one run, and later ones its result"},
    cache_bytes: {:integer, 0, nil, 4 * 1024 * 1024 * 1024, "of results that are found again"},
    journal_bytes:
      {:integer, 1024, nil, 64 * 1024 * 1024, "size from which the journal is compacted"},
    redis: {:redis, nil, "redis:// URL of the store of a cluster; nil: the journal on disk"},
    redis_timeout_ms: {:integer, 1, nil, 1_000, "that an answer of Redis may take"},
    lease_ms:
      {:integer, 100, nil, 10_000, "without a sign of a gateway until others adopt its jobs"},
    # queue and jobs
    queue_limit: {:integer, 1, nil, 256, "jobs that may wait per family"},
    queue_budget_ms:
      {:integer, 1, nil, 3_600_000, "estimated time in slots that may wait per family"},
    queue_update_ms:
      {:integer, 1, nil, 1_000, "least time between two `queued` events of a waiting job"},
    absence_ms:
      {:integer, 0, nil, 5_000, "how long nobody may follow an interactive job that is not kept"},
    max_attempts:
      {:integer, 1, nil, 3,
       "how often a job is run when model nodes or peers die; the last time alone"},
    drain_ms: {:integer, 0, nil, 10_000, "how long running jobs may go on at a stop"},
    # model nodes
    python: {:string, "python3", "interpreter of the model nodes"},
    python_path: {:path, "python_nodes", "folder of the Python package"},
    node_command: {:command, nil, "what starts a model node; nil: `<python> -m koma.port`"},
    models: {:models, [], "entries of config/models.exs"},
    hello_timeout_ms:
      {:integer, 1, nil, 60_000,
       "from start to the first message; between answers while it loads"},
    load_timeout_ms: {:integer, 1, nil, 900_000, "for loading a checkpoint, a download included"},
    ping_interval_ms: {:integer, 1, nil, 1_000, "between pings"},
    ping_timeout_ms: {:integer, 1, nil, 20_000, "without a pong until a model node is killed"},
    hang_timeout_ms:
      {:integer, 1, nil, 120_000,
       "without a sign of life from an operation until a model node is killed"},
    restart_min_ms: {:integer, 1, nil, 200, "pause before the first restart of a model node"},
    restart_max_ms: {:integer, 1, nil, 30_000, "longest pause between restarts"},
    # provenance
    marks:
      {:marks, [:invisible, :signed], "what says that a machine made an output; [] for nothing"},
    provenance_dir:
      {:optional_string, nil, "folder of the keys of the marks; nil: provenance in data_dir"},
    sign_chain: {:optional_string, nil, "an own certificate chain, PEM; nil: the server's own"},
    sign_key: {:optional_string, nil, "the key of that chain, PEM"},
    timestamps: {:optional_string, nil, "URL of a time-stamp authority; nil: none"},
    marks_prompts: {:boolean, false, "whether the signed statement names prompts and seeds"}
  ]

  defstruct for {key, spec} <- @schema, do: {key, elem(spec, tuple_size(spec) - 2)}

  @type t :: %__MODULE__{
          port: :inet.port_number(),
          bind: String.t(),
          port_file: String.t() | nil,
          edge: boolean,
          header_timeout_ms: pos_integer,
          max_connections: pos_integer | nil,
          max_connections_per_address: pos_integer | nil,
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

  @doc "The options with their defaults and meanings, for the documentation."
  @spec documented() :: [{atom, default :: term, meaning :: String.t()}]
  def documented do
    for {key, spec} <- @schema do
      [meaning, default | _rest] = spec |> Tuple.to_list() |> Enum.reverse()
      {key, default, meaning}
    end
  end

  @doc "Checks every option; the message of an error names the key and suggests the nearest one."
  @spec new(keyword) :: {:ok, t} | {:error, String.t()}
  def new(given) do
    Enum.reduce_while(given, {:ok, %__MODULE__{}}, fn {key, value}, {:ok, options} ->
      with {:ok, spec} <- known(key),
           {:ok, checked} <- check(spec, value) do
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

  defp known(key) do
    case Keyword.fetch(@schema, key) do
      {:ok, spec} -> {:ok, spec}
      :error -> {:error, "unknown; did you mean #{nearest(key)}?"}
    end
  end

  defp nearest(key) do
    @schema
    |> Keyword.keys()
    |> Enum.max_by(&String.jaro_distance(to_string(&1), to_string(key)))
  end

  defp check({:integer, low, high, _default, _meaning}, value) do
    if is_integer(value) and value >= low and (high == nil or value <= high),
      do: {:ok, value},
      else: {:error, "#{inspect(value)} is not an integer in #{low}..#{high || "∞"}"}
  end

  defp check({:string, _default, _meaning}, value) when is_binary(value), do: {:ok, value}
  # Model nodes get such paths, and they may run in another folder.
  defp check({:path, _default, _meaning}, value) when is_binary(value) do
    {:ok, Path.expand(value)}
  end

  defp check({:optional_integer, _low, _high, _default, _meaning}, nil), do: {:ok, nil}

  defp check({:optional_integer, low, high, default, meaning}, value),
    do: check({:integer, low, high, default, meaning}, value)

  defp check({:optional_string, _default, _meaning}, nil), do: {:ok, nil}
  defp check({:optional_string, _default, _meaning}, v) when is_binary(v), do: {:ok, v}
  defp check({:boolean, _default, _meaning}, value) when is_boolean(value), do: {:ok, value}
  defp check({:command, _default, _meaning}, nil), do: {:ok, nil}

  defp check({:command, _default, _meaning}, [_ | _] = command) do
    if Enum.all?(command, &is_binary/1),
      do: {:ok, command},
      else: {:error, "#{inspect(command)} is not a list of strings"}
  end

  defp check({:strings, _default, _meaning}, list) when is_list(list) do
    if Enum.all?(list, &is_binary/1),
      do: {:ok, list},
      else: {:error, "#{inspect(list)} is not a list of strings"}
  end

  defp check({:redis, _default, _meaning}, nil), do: {:ok, nil}

  defp check({:redis, _default, _meaning}, url) when is_binary(url) do
    Koma.Redis.Address.parse(url)
  end

  defp check({:roles, _default, _meaning}, [_ | _] = roles) do
    case roles -- [:gateway, :worker] do
      [] -> {:ok, roles}
      [unknown | _] -> {:error, "#{inspect(unknown)} is not gateway, worker or both"}
    end
  end

  defp check({:marks, _default, _meaning}, marks) when is_list(marks) do
    case marks -- [:invisible, :signed] do
      [] -> {:ok, marks}
      [unknown | _] -> {:error, "#{inspect(unknown)} is not invisible or signed"}
    end
  end

  defp check({:ports, _default, _meaning}, {low, high})
       when low in 1..65_535 and high in low..65_535,
       do: {:ok, {low, high}}

  defp check({:models, _default, _meaning}, entries) when is_list(entries) do
    Spec.from_entries(entries)
  end

  defp check(spec, value), do: {:error, "#{inspect(value)} is not a #{elem(spec, 0)}"}
end
