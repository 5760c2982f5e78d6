"""From the start of a server to its first result, and what its processes then take."""

from __future__ import annotations

import time
from tempfile import TemporaryDirectory

from koma.bench import memory
from koma.bench.batching.replay import Replay
from koma.bench.finding import Table
from koma.bench.plan import Plan
from koma.bench.servers import koma_cold
from koma.bench.setting import FAMILIES, emoji
from koma.bench.spread import spread
from koma.bench.workload import Workload


def measure(plan: Plan) -> list[Table]:
    """Start each family alone, then all three; a quick run starts all three only."""
    workload = Workload(plan.random("start"), plan.folder("clips"), emoji())
    rows, resident = [], []
    alone = plan.pick([(family, (family,)) for family in FAMILIES], [])
    for name, families in [*alone, ("all three", FAMILIES)]:
        rounds = [_start(plan, workload, name, families) for _ in range(plan.rounds)]
        listening, ready, result = zip(*(times for times, _ in rounds), strict=True)
        rows.append([name, spread(listening, 1), spread(ready, 1), spread(result, 1)])
        resident = rounds[-1][1]
    head = ["model nodes", "listening s", "ready s", "first result of each s"]
    taken = [[item.name, f"{item.mebibytes:.0f}"] for item in resident]
    total = f"{sum(item.mebibytes for item in resident):.0f}"
    return [
        Table("Cold start, from the command to …", head, rows),
        Table("Memory after the first results", ["process", "MiB (Pss)"], [*taken, ["total", total]]),
    ]


def _start(
    plan: Plan, workload: Workload, name: str, families: tuple[str, ...]
) -> tuple[tuple[float, float, float], list[memory.Resident]]:
    requests = [(0.0, request) for family in families for request in workload.requests(family, 1)]
    with TemporaryDirectory(prefix="koma-bench-") as folder:
        began = time.perf_counter()
        with koma_cold(plan, ",".join(families), folder, f"start-{len(families)}") as server:
            listening = time.perf_counter() - began
            server.wait_ready(300)
            ready = time.perf_counter() - began
            Replay(server.url).run(requests)
            result = time.perf_counter() - began
            plan.say(f"{name}: ready after {ready:.1f} s, first result after {result:.1f} s")
            return (listening, ready, result), memory.measure(server.pid)
