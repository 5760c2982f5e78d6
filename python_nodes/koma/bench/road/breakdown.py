"""Where the time of a job goes: spans that the gateway counts (``koma_road_*``), and processor time."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import Any

from koma.bench import memory, servers
from koma.bench.finding import Bar, Plot, Table
from koma.bench.plan import Plan
from koma.bench.road import websocket
from koma.bench.spread import median, percentile, spread

PARTS = {
    "socket": "reading a frame of the client and finding its topic",
    "channel": "a push to a topic and its answer; holds `job`",
    "job": "from the request to an accepted job; holds the admission, a write and sync of `store`, the start "
    "of the job's process",
    "queue": "admission, and joining the queue",
    "store": "writing of events; acceptance and end wait for the disk",
    "scheduler": "claiming a slot",
    "model_node": "from the dispatch to the result, pipe and Python included; holds `runtime`",
    "runtime": "what the model node says it needed for the job, from reading it to telling its end",
}
MAX_SHARE = 0.01
"""Of an image job, for the gateway."""


@dataclass
class Spans:
    """What the parts took, by jobs."""

    tables: list[Table]
    bars: list[Bar]
    plots: list[Plot]


def measure(plan: Plan) -> Spans:
    """Break down no-op jobs, and tell the gateway's share of an image job."""
    spans = Spans([], [], [])
    with servers.koma(plan, "toy", "breakdown") as server:
        websocket.measure(server.url, 32, 200)
        for in_flight in (1, 32):
            _parts(plan, server.url, server.pid, in_flight, spans)
    _share(plan, spans)
    return spans


def _parts(plan: Plan, url: str, pid: int, in_flight: int, spans: Spans) -> None:
    jobs = plan.pick(2000, 300)
    processes = {**memory.processes(pid), os.getpid(): "client"}
    before, used = _read(url), servers.cpu_seconds(processes)
    rate = websocket.measure(url, in_flight, jobs)
    after, used_after = _read(url), servers.cpu_seconds(processes)
    rows = []
    for part, what in PARTS.items():
        count, spent = (after[part][k] - before[part][k] for k in (0, 1))
        rows.append(
            [f"`{part}`", f"{count / jobs:.1f}", f"{spent / max(count, 1):.0f}", f"{spent / jobs:.0f}", what]
        )
        plan.say(f"{part}: {spent / jobs:.0f} µs per job with {in_flight} in flight")
    title = f"Time per job, {in_flight} in flight (p50 {rate.p50_ms:.1f} ms)"
    spans.tables.append(
        Table(title, ["part", "spans per job", "µs per span", "µs per job", "what it is"], rows)
    )
    cpu = [[f"`{name}`", f"{1000 * (used_after[name] - used[name]) / jobs:.2f}"] for name in sorted(used)]
    spans.tables.append(Table(f"Processor time per job, {in_flight} in flight", ["process", "ms"], cpu))
    points: list[tuple[float | str, float]] = [(row[0].strip("`"), float(row[3])) for row in rows]
    spans.plots.append(
        Plot(f"road_parts_{in_flight}", title, "", "µs per job", {"µs per job": points}, "bar")
    )


def _read(url: str) -> dict[str, tuple[float, float]]:
    counts = servers.metrics(url, "koma_road_spans_total")
    times = servers.metrics(url, "koma_road_microseconds_total")
    labels = {part: f'part="{part}"' for part in PARTS}
    return {part: (counts.get(label, 0.0), times.get(label, 0.0)) for part, label in labels.items()}


def _share(plan: Plan, spans: Spans) -> None:
    """What of the time of an image job is not the model node's: from the submit to the end at the client."""
    draw = plan.random("share")
    shares, totals, own = [], [], []
    with servers.koma(plan, "amused", "share") as server:
        for number in range(plan.pick(24, 4) + 1):
            request: dict[str, Any] = {
                "task": "image.generate",
                "params": {"prompt": f"picture {draw.random()}", "seed": draw.randrange(10**9)},
            }
            _, load = asyncio.run(websocket.run(server.url, 1, 1, request))
            if number == 0:  # the first one warms up
                continue
            total = 1000 * load.latencies[0]
            in_node = load.completed[0]["timings"]["total_ms"]
            totals.append(total)
            own.append(total - in_node)
            shares.append((total - in_node) / total)
    text = f"{median(own):.1f} of {median(totals):.0f} ms: {100 * median(shares):.2f} %"
    bar = Bar("the gateway's share of an image job (emoji, defaults) < 1 %", text, median(shares) < MAX_SHARE)
    spans.bars.append(bar)
    rows = [[spread(totals, 0), spread(own, 2), f"{percentile(own, 0.99):.2f}"]]
    spans.tables.append(
        Table("An image job, one at a time", ["ms in all", "ms beside the model node", "p99"], rows)
    )
