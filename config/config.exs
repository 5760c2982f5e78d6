import Config

# What is fixed when the gateway is built. Everything that an operator sets is read in
# config/runtime.exs; which models run is in config/models.exs.
config :logger, :console,
  format: {Koma.LogLine, :format},
  metadata: [:model_node, :job]

config :logger, level: :info

if config_env() == :test, do: import_config("test.exs")
