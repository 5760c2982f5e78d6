# `mix test --only soak` runs what takes minutes.
ExUnit.start(capture_log: true, exclude: [:soak])
