"""Ray Serve with one replica, and more requests at a time than its default, so that none waits outside."""

from __future__ import annotations

import signal
import sys
from typing import Any

import ray
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=512)
class Noop:
    """The no-op."""

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Read the request and answer it."""
        body = await request.json()
        return {"steps": body["params"]["steps"]}


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100_000_000)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    application = Noop.bind()  # type: ignore[attr-defined]
    serve.run(application, route_prefix="/predict")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
