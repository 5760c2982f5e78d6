import Config

# The only reader of the environment. Unset variables leave the defaults of Koma.Options.
#
#   KOMA_PORT        TCP port, 0 for any free one               (4000)
#   KOMA_BIND        address to listen on                       (127.0.0.1)
#   KOMA_PORT_FILE   file that gets the port once it listens    (none)
#   KOMA_KEYS_FILE   file with the API keys, see docs/security.md (none)
#   KOMA_KEYS        the same lines, separated by ;             (none)
#   KOMA_OPEN        on: listen beyond loopback without keys    (off)
#   KOMA_ORIGINS     further origins whose pages may use it, separated by , (none)
#   KOMA_SECRET      signs the sessions of the dashboard        (made once, kept in KOMA_DATA)
#   KOMA_MAX_CONNECTIONS connections of clients                 (as many as the file descriptors allow)
#   KOMA_MAX_CONNECTIONS_PER_ADDRESS of them from one address   (seven of eight)
#   KOMA_DATA        folder of jobs and artifacts               (data)
#   KOMA_PYTHON      interpreter of the model nodes             (.venv/bin/python)
#   KOMA_MODELS      "all", or families with an optional count, e.g. "toy:2,amused" (all)
#   KOMA_MODELS_FILE file with the model nodes                  (config/models.exs)
#   KOMA_CHECKPOINT  one checkpoint name for every family       (as in the file)
#   KOMA_QUEUE_LIMIT jobs that may wait per family              (256)
#   KOMA_QUEUE_BUDGET_MS estimated time in slots that may wait  (3600000)
#   KOMA_ABSENCE_MS  grace of interactive jobs nobody follows   (5000)
#   KOMA_MAX_ATTEMPTS how often a job is run when model nodes or peers die (3)
#   KOMA_DRAIN_MS    how long running jobs may go on at a stop  (10000)
#   KOMA_RETENTION_MS    how long finished jobs stay            (604800000, 7 days)
#   KOMA_RETENTION_BYTES of artifacts that jobs keep            (21474836480, 20 GiB)
#   KOMA_CACHE_BYTES of results for equal requests, 0: none     (4294967296, 4 GiB)
#   KOMA_SHARE_RESULTS on: equal requests share; off            (on)
#   KOMA_MARKS       marks of outputs: invisible, signed; off: none (invisible,signed)
#   KOMA_PROVENANCE  folder of the keys of the marks            (provenance in KOMA_DATA)
#   KOMA_SIGN_CHAIN  an own certificate chain, PEM, and         (the server certifies itself)
#   KOMA_SIGN_KEY    its private key, PEM
#   KOMA_TIMESTAMPS  URL of a time-stamp authority              (none)
#   KOMA_MARKS_PROMPTS on: prompts and seeds are in the signed statement (off)
#   KOMA_REDIS_URL   redis://user:password@host:port/database: jobs and results of a cluster (none)
#   KOMA_REDIS_TIMEOUT_MS that an answer of Redis may take      (1000)
#   KOMA_LEASE_MS    without a sign of a gateway until others adopt its jobs (10000)
#   KOMA_NODE        name@host: this peer of a cluster          (none: no cluster)
#   KOMA_COOKIE      secret that all peers share, or            (none, and no default)
#   KOMA_COOKIE_FILE file that has it
#   KOMA_ROLES       gateway, worker                            (gateway,worker)
#   KOMA_PEERS       names of peers, e.g. "koma@10.0.0.2,koma@10.0.0.3"
#   KOMA_PEERS_DNS   DNS name whose A, AAAA or SRV records are the peers
#   KOMA_DIST_PORTS  ports of the distribution                  (9100-9199)
#   KOMA_TICK_S      without a sign of a peer until it is lost  (12)
#   KOMA_LOG_LEVEL   debug | info | warning | error             (info)
if config_env() != :test do
  root = Path.expand("..", __DIR__)
  env = fn name, default -> System.get_env(name) || default end

  file = env.("KOMA_MODELS_FILE", Path.join(root, "config/models.exs"))
  {entries, _bindings} = Code.eval_file(file)

  # A family that the file does not name, of whatever package that is installed.
  other = fn family ->
    %{name: family, family: family, checkpoint: "default", count: 1, slots: 8}
  end

  chosen =
    case env.("KOMA_MODELS", "all") do
      "all" ->
        entries

      list ->
        for item <- String.split(list, ",", trim: true) do
          {family, count} =
            case String.split(String.trim(item), ":") do
              [family] -> {family, nil}
              [family, count] -> {family, String.to_integer(count)}
            end

          entry = Enum.find(entries, other.(family), &(&1.family == family))
          if count, do: %{entry | count: count}, else: entry
        end
    end

  models =
    case env.("KOMA_CHECKPOINT", nil) do
      nil -> chosen
      name -> for entry <- chosen, do: %{entry | checkpoint: name}
    end

  list = fn name, default -> name |> env.(default) |> String.split(",", trim: true) end

  role = fn
    "gateway" -> :gateway
    "worker" -> :worker
    other -> raise "KOMA_ROLES names #{inspect(other)}; roles are gateway and worker"
  end

  roles = for name <- list.("KOMA_ROLES", "gateway,worker"), do: role.(String.trim(name))

  dist_ports =
    case String.split(env.("KOMA_DIST_PORTS", "9100-9199"), "-") do
      [low, high] -> {String.to_integer(low), String.to_integer(high)}
      [port] -> {String.to_integer(port), String.to_integer(port)}
    end

  marks =
    case env.("KOMA_MARKS", "invisible,signed") do
      "off" ->
        []

      list ->
        for name <- String.split(list, ",", trim: true) do
          case String.trim(name) do
            "invisible" ->
              :invisible

            "signed" ->
              :signed

            other ->
              raise "KOMA_MARKS names #{inspect(other)}; marks are invisible and signed, or off"
          end
        end
    end

  path = fn name -> if given = env.(name, nil), do: Path.expand(given) end

  optional_integer = fn name ->
    with text when text != nil <- System.get_env(name), do: String.to_integer(text)
  end

  config :koma,
    max_connections: optional_integer.("KOMA_MAX_CONNECTIONS"),
    max_connections_per_address: optional_integer.("KOMA_MAX_CONNECTIONS_PER_ADDRESS"),
    marks: marks,
    provenance_dir: path.("KOMA_PROVENANCE"),
    sign_chain: path.("KOMA_SIGN_CHAIN"),
    sign_key: path.("KOMA_SIGN_KEY"),
    timestamps: env.("KOMA_TIMESTAMPS", nil),
    marks_prompts: env.("KOMA_MARKS_PROMPTS", "off") == "on",
    node: env.("KOMA_NODE", nil),
    cookie: env.("KOMA_COOKIE", nil),
    cookie_file: env.("KOMA_COOKIE_FILE", nil),
    roles: roles,
    peers: Enum.map(list.("KOMA_PEERS", ""), &String.trim/1),
    peers_dns: env.("KOMA_PEERS_DNS", nil),
    dist_ports: dist_ports,
    tick_s: String.to_integer(env.("KOMA_TICK_S", "12")),
    port: String.to_integer(env.("KOMA_PORT", "4000")),
    bind: env.("KOMA_BIND", "127.0.0.1"),
    port_file: env.("KOMA_PORT_FILE", nil),
    keys_file: env.("KOMA_KEYS_FILE", nil),
    keys: env.("KOMA_KEYS", nil),
    open: env.("KOMA_OPEN", "off") == "on",
    origins: "KOMA_ORIGINS" |> env.("") |> String.split(",", trim: true),
    secret: env.("KOMA_SECRET", nil),
    data_dir: Path.expand(env.("KOMA_DATA", Path.join(root, "data"))),
    python: env.("KOMA_PYTHON", Path.join(root, ".venv/bin/python")),
    python_path: env.("KOMA_PYTHONPATH", Path.join(root, "python_nodes")),
    models: if(:worker in roles, do: models, else: []),
    queue_limit: String.to_integer(env.("KOMA_QUEUE_LIMIT", "256")),
    queue_budget_ms: String.to_integer(env.("KOMA_QUEUE_BUDGET_MS", "3600000")),
    retention_ms: String.to_integer(env.("KOMA_RETENTION_MS", "604800000")),
    retention_bytes: String.to_integer(env.("KOMA_RETENTION_BYTES", "21474836480")),
    cache_bytes: String.to_integer(env.("KOMA_CACHE_BYTES", "4294967296")),
    # A peer that only works has no jobs of its own to keep.
    redis: if(:gateway in roles, do: env.("KOMA_REDIS_URL", nil)),
    redis_timeout_ms: String.to_integer(env.("KOMA_REDIS_TIMEOUT_MS", "1000")),
    lease_ms: String.to_integer(env.("KOMA_LEASE_MS", "10000")),
    share_results: env.("KOMA_SHARE_RESULTS", "on") != "off",
    absence_ms: String.to_integer(env.("KOMA_ABSENCE_MS", "5000")),
    max_attempts: String.to_integer(env.("KOMA_MAX_ATTEMPTS", "3")),
    drain_ms: String.to_integer(env.("KOMA_DRAIN_MS", "10000"))

  config :logger, level: String.to_existing_atom(env.("KOMA_LOG_LEVEL", "info"))
end
