"""Requests over HTTP by wrk (Debian's package), the same for every server.

wrk is written in C and leaves the cores to what is measured. It keeps each connection alive and has one
request under way on each.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("post.lua")


@dataclass(frozen=True)
class HttpRate:
    """Requests per second and latencies in milliseconds."""

    in_flight: int
    requests: int
    errors: int
    per_second: float
    p50_ms: float
    p99_ms: float


def measure(url: str, in_flight: int, seconds: float) -> HttpRate:
    """POST the no-op job to ``url`` for some seconds; raises RuntimeError where answers are not 2xx."""
    if shutil.which("wrk") is None:
        raise RuntimeError("wrk is not installed: scripts/setup.sh bench")
    command = [
        "wrk",
        "-t1",
        f"-c{in_flight}",
        f"-d{seconds:.0f}s",
        "--timeout",
        "30s",
        "-s",
        str(SCRIPT),
        url,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    if told["errors"] or not told["requests"]:
        raise RuntimeError(f"{url}: {told}")
    return HttpRate(
        in_flight,
        told["requests"],
        told["errors"],
        told["requests"] / told["seconds"],
        told["p50_us"] / 1000,
        told["p99_us"] / 1000,
    )
