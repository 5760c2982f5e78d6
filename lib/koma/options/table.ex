defmodule Koma.Options.Table do
  @moduledoc """
  The one table of the options of a peer: for each its type with its bounds, its default, and a
  sentence that says what it does.

  `Koma.Options` is the struct of it, `Koma.Options.Environment` reads the environment by it, and
  docs/configuration.md is written from it. To add an option, add a line here and a field to the type
  of `Koma.Options`; then write the page with `KOMA_WRITE_DOCS=1 mix test test/koma/options`.
  """

  @typedoc """
  `{:integer, low, high}` is bounded on both sides, `high` may be nil; `:optional_integer` and
  `:optional_string` may be nil, which the sentence explains.
  """
  @type kind ::
          {:integer | :optional_integer, low :: integer, high :: integer | nil}
          | :string
          | :optional_string
          | :boolean
          | :strings
          | :path
          | :command
          | :redis
          | :roles
          | :ports
          | :marks
          | :models
  @type entry :: {kind, default :: term, sentence :: String.t()}

  @mib 1024 * 1024
  @gib 1024 * @mib

  @groups [
    {"What listens",
     [
       port: {{:integer, 0, 65_535}, 4000, "The TCP port; 0 takes any free one."},
       bind: {:string, "127.0.0.1", "The address to listen on."},
       port_file: {:optional_string, nil, "This file gets the port once the server listens."},
       edge: {:boolean, true, "Whether the server listens at all."},
       header_timeout_ms:
         {{:integer, 1, nil}, 10_000,
          "A connection must have sent a whole head so long after it was made, or after the last answer."},
       max_connections:
         {{:optional_integer, 1, nil}, nil,
          "So many connections of clients may be open; by default as many as the file descriptors allow."},
       max_connections_per_address:
         {{:optional_integer, 1, nil}, nil,
          "So many of them may come from one address; by default seven of eight."},
       max_guests:
         {{:integer, 1, nil}, 1_024,
          "Where keys are asked for, so many of them may be of guests, who have shown none yet."},
       max_upload_bytes: {{:integer, 1, nil}, 512 * @mib, "No artifact may be larger."}
     ]},
    {"Who is let in",
     [
       keys_file:
         {:optional_string, nil, "This file has the API keys; docs/security.md shows its lines."},
       keys:
         {:optional_string, nil, "These are the same lines, separated by `;`. Both may be given."},
       open: {:boolean, false, "Whether the server listens beyond loopback without keys."},
       origins:
         {:strings, [], "Pages of these origins may use the server, beside its own pages."},
       secret:
         {:optional_string, nil,
          "This signs the sessions of the dashboard; by default a secret that is made once and kept in the data folder."}
     ]},
    {"The cluster",
     [
       node: {:optional_string, nil, "`name@host` of this peer; without it there is no cluster."},
       cookie:
         {:optional_string, nil, "The secret that all peers share, of 16 characters or more."},
       cookie_file: {:optional_string, nil, "The file that has the secret instead."},
       roles:
         {:roles, [:gateway, :worker],
          "What this peer does: `gateway` serves clients, `worker` runs model nodes."},
       peers: {:strings, [], "The names of other peers."},
       peers_dns:
         {:optional_string, nil, "The A, AAAA or SRV records of this DNS name are the peers."},
       dist_ports:
         {:ports, {9100, 9199}, "The distribution takes a free port of this range, `low-high`."},
       tick_s: {{:integer, 1, nil}, 12, "A peer that gives no sign for so many seconds is lost."}
     ]},
    {"What is kept",
     [
       data_dir: {:path, "data", "The folder of jobs and artifacts."},
       retention_jobs: {{:integer, 0, nil}, 10_000, "So many finished jobs stay readable."},
       retention_ms:
         {{:integer, 0, nil}, 7 * 24 * 3_600_000, "Finished jobs stay readable for so long."},
       retention_bytes:
         {{:integer, 0, nil}, 20 * @gib,
          "The oldest jobs go when the artifacts of jobs take more than this."},
       grace_ms: {{:integer, 0, nil}, 3_600_000, "An artifact that no job names stays so long."},
       collect_ms: {{:integer, 1, nil}, 300_000, "The collector passes so often."},
       share_results:
         {:boolean, true,
          "Whether equal requests share one run, and later ones are answered by its result."},
       cache_bytes:
         {{:integer, 0, nil}, 4 * @gib, "Results of this size together are found again."},
       journal_bytes:
         {{:integer, 1024, nil}, 64 * @mib, "The journal is written anew from this size on."},
       redis:
         {:redis, nil,
          "`redis://user:password@host:port/database` keeps the jobs of several gateways; by default the journal on disk does."},
       redis_timeout_ms: {{:integer, 1, nil}, 1_000, "An answer of Redis may take so long."},
       lease_ms:
         {{:integer, 100, nil}, 10_000,
          "Others adopt the jobs of a gateway that gives no sign for so long."}
     ]},
    {"What waits and runs",
     [
       queue_limit: {{:integer, 1, nil}, 256, "So many jobs may wait for each family."},
       queue_budget_ms:
         {{:integer, 1, nil}, 3_600_000,
          "Jobs of so much estimated time in slots may wait for each family."},
       queue_update_ms:
         {{:integer, 1, nil}, 1_000,
          "A job that waits is told its place no more often than this."},
       absence_ms:
         {{:integer, 0, nil}, 5_000,
          "An interactive job that is not kept is cancelled when nobody has followed it for so long."},
       max_attempts:
         {{:integer, 1, nil}, 3,
          "A job is run so often when model nodes or peers die under it; the last time alone."},
       drain_ms: {{:integer, 0, nil}, 10_000, "At a stop, running jobs may go on for so long."}
     ]},
    {"Model nodes",
     [
       python: {:string, "python3", "The interpreter of the model nodes."},
       python_path: {:path, "python_nodes", "The folder of the Python package."},
       node_command:
         {:command, nil, "This starts a model node; by default `<python> -m koma.port`."},
       models: {:models, [], "The model nodes; see the variables below."},
       hello_timeout_ms:
         {{:integer, 1, nil}, 60_000,
          "A model node must say its first word so long after its start, and answer so soon while it loads."},
       load_timeout_ms:
         {{:integer, 1, nil}, 900_000,
          "Loading a checkpoint may take so long, its download included."},
       ping_interval_ms: {{:integer, 1, nil}, 1_000, "A model node is pinged so often."},
       ping_timeout_ms:
         {{:integer, 1, nil}, 20_000, "A model node that answers no ping for so long is killed."},
       hang_timeout_ms:
         {{:integer, 1, nil}, 120_000,
          "A model node whose operation gives no sign of life for so long is killed."},
       restart_min_ms:
         {{:integer, 1, nil}, 200, "The pause before the first restart of a model node."},
       restart_max_ms: {{:integer, 1, nil}, 30_000, "The longest pause between restarts."}
     ]},
    {"Marks",
     [
       marks:
         {:marks, [:invisible, :signed],
          "What says that a machine made an output: `invisible`, `signed`, or `off` for nothing."},
       provenance_dir:
         {:optional_string, nil,
          "The folder of the keys of the marks; by default `provenance` in the data folder."},
       sign_chain:
         {:optional_string, nil,
          "An own certificate chain in PEM; by default the server certifies itself."},
       sign_key: {:optional_string, nil, "The private key of that chain, in PEM."},
       timestamps:
         {:optional_string, nil, "The URL of a time-stamp authority; by default none is asked."},
       marks_prompts: {:boolean, false, "Whether the signed statement names prompts and seeds."}
     ]}
  ]

  # Where the variable is not `KOMA_` and the name of the option.
  @variables %{
    data_dir: "KOMA_DATA",
    python_path: "KOMA_PYTHONPATH",
    redis: "KOMA_REDIS_URL",
    provenance_dir: "KOMA_PROVENANCE"
  }

  @doc "The options under the headings of docs/configuration.md."
  @spec groups() :: [{heading :: String.t(), [{atom, entry}]}]
  def groups, do: @groups

  @doc "All options."
  @spec all() :: [{atom, entry}]
  def all, do: Enum.flat_map(@groups, fn {_heading, options} -> options end)

  @doc """
  The environment variable of an option.

      iex> Koma.Options.Table.variable(:queue_limit)
      "KOMA_QUEUE_LIMIT"
      iex> Koma.Options.Table.variable(:data_dir)
      "KOMA_DATA"
  """
  @spec variable(atom) :: String.t()
  def variable(key), do: @variables[key] || "KOMA_" <> String.upcase(Atom.to_string(key))
end
