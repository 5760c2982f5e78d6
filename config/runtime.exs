import Config

# What the environment says is read by one table, lib/koma/options/table.ex; docs/configuration.md shows it.
if config_env() != :test do
  alias Koma.Options.Environment

  variables = System.get_env()
  config :koma, Environment.read!(variables, Path.expand("..", __DIR__))
  config :logger, level: Environment.log_level!(variables)
end
