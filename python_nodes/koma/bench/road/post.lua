-- The request of every server, and the figures as one line of JSON.
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.body = '{"task": "toy.run", "params": {"steps": 1, "step_ms": 0}}'

function done(summary, latency, _requests)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "errors": %d, "seconds": %.6f, "p50_us": %.1f, "p99_us": %.1f}\n',
    summary.requests, errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    summary.duration / 1e6, latency:percentile(50), latency:percentile(99)))
end
