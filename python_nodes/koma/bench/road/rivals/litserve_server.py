"""LitServe with its defaults: one worker process behind one server process."""

from __future__ import annotations

import sys
from typing import Any

import litserve


class Noop(litserve.LitAPI):
    """The no-op."""

    def setup(self, device: str) -> None:
        """There is nothing to load."""

    # LitServe takes an annotation of the argument for the model of the body.
    def decode_request(self, request) -> int:  # type: ignore[no-untyped-def]  # noqa: ANN001
        """Read the request."""
        return int(request["params"]["steps"])

    def predict(self, steps: int) -> int:
        """Do nothing."""
        return steps

    def encode_response(self, steps: int) -> dict[str, Any]:
        """Write the response."""
        return {"steps": steps}


if __name__ == "__main__":
    server = litserve.LitServer(Noop(), accelerator="cpu", timeout=60)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False)
