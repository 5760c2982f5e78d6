import Config

# Tests start what they need themselves, on port 0 and in their own folders.
config :koma, start: false
config :logger, level: :warning
