# `mix test --only soak` runs what takes minutes.
ExUnit.start(
  capture_log: true,
  exclude: [:soak],
  # A machine may be busy; who waits in vain waits a little longer.
  assert_receive_timeout: 5_000,
  formatters: [ExUnit.CLIFormatter, Koma.FailureList]
)
