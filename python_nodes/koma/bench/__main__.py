"""``python -m koma.bench``: start servers, measure, print the tables and write ``docs/benchmarks.md``."""

from __future__ import annotations

import os
import tempfile
from datetime import date
from pathlib import Path

from koma.bench import machine, memory, road
from koma.bench.report import replace_part, table
from koma.cli.server_process import ServerProcess, home

QUICK = bool(os.environ.get("QUICK"))
PLAN = {1: 200, 32: 1000, 256: 2000} if QUICK else {1: 1000, 32: 5000, 256: 10000}


def measure_road() -> str:
    """Jobs per second and latency through the whole road with the toy family."""
    with tempfile.TemporaryDirectory() as folder, _server(Path(folder), "toy") as server:
        server.wait_ready()
        found = road.rates(server.url, PLAN)
    rows = [
        [str(r.in_flight), str(r.jobs), f"{r.per_second:.0f}", f"{r.p50_ms:.1f}", f"{r.p99_ms:.1f}"]
        for r in found
    ]
    return table(["in flight", "jobs", "jobs/s", "p50 ms", "p99 ms"], rows)


def measure_memory() -> str:
    """Memory of the idle system with the default model nodes."""
    with tempfile.TemporaryDirectory() as folder, _server(Path(folder), "all") as server:
        server.wait_ready(300)
        found = memory.measure(server.pid)
    rows = [[item.name, f"{item.mebibytes:.0f}"] for item in found]
    return table(["process", "MiB (Pss)"], [*rows, ["total", f"{sum(i.mebibytes for i in found):.0f}"]])


def main() -> None:
    """Run every measurement and write the report."""
    page = home() / "docs" / "benchmarks.md"
    head = f"{date.today()}, {machine.describe().line()}. Command: `make bench`."
    parts = {
        "road": "## The road: no-op jobs over one WebSocket\n\n" + measure_road(),
        "memory": "## Memory of the idle system\n\n" + measure_memory(),
    }
    for name, text in {"head": head, **parts}.items():
        print(text, end="\n\n")
        replace_part(page, name, text)


def _server(folder: Path, models: str) -> ServerProcess:
    environment = {"KOMA_MODELS": models, "KOMA_LOG_LEVEL": "warning", "KOMA_QUEUE_LIMIT": "1024"}
    return ServerProcess(folder, environment, folder / "server.log")


if __name__ == "__main__":
    main()
