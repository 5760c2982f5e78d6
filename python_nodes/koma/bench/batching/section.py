"""The section ``batching``: what sharing forwards step by step is worth under load."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from koma.bench import servers
from koma.bench import setting as settings
from koma.bench.batching import observed
from koma.bench.batching.replay import Replay
from koma.bench.batching.runs import SYSTEMS, Runs
from koma.bench.finding import Bar, Finding, Plot, Table
from koma.bench.plan import Plan
from koma.bench.setting import FAMILIES, SLOTS, Setting
from koma.bench.stock.process import Stock, stock
from koma.bench.workload import Request, Workload

KOMA, WHOLE, SINGLE = SYSTEMS
SATURATED = ("amused", "smolvlm2")
"""Families that are to reach a multiple of the throughput of one at a time."""
SATURATION = 4.0
"""The load at which nothing keeps up."""
MOST_NODES = 4
Arrivals = list[tuple[float, Request]]

TEXT = """Requests of one family with mixed parameters (6, 9 or 12 steps; 8 to 32 tokens about clips that
are all different) arrive as a Poisson process. Load 1 is the rate that the stock pipeline sustains one
request at a time, measured just before. The same arrivals go to Koma (all guarantees, over a WebSocket,
previews on; a model node of one thread for each core, four at most), to the stock pipeline in batches of
whole requests (those that wait and can share a call, up to 8, then nobody joins until it returns), and to
the stock pipeline one at a time. The systems run one after another in random order, on the same cores; the
stock pipelines have torch's own choice of threads. Latency counts from the time of arrival. The stock
pipelines show nothing before the end. Percentiles are over all rounds."""


class Family:
    """The measurement of one family."""

    def __init__(self, plan: Plan, name: str, setting: Setting) -> None:
        self._plan = plan
        self.name = name
        self.setting = setting
        self._draw = plan.random(f"batching/{name}")
        self._workload = Workload(self._draw, plan.folder("clips"), setting)
        self._rows_file = plan.folder("logs") / f"rows-{name}"
        self.runs: dict[tuple[str, float], Runs] = defaultdict(Runs)
        self.batches: dict[float, Counter[int]] = defaultdict(Counter)
        self.rate = 0.0

    def measure(self, loads: Sequence[float]) -> None:
        """Run every system at every load in every round."""
        self._rows_file.write_text("")
        python = str(observed.interpreter(self._plan.folder("logs")))
        environment = {"KOMA_PYTHON": python, observed.VARIABLE: str(self._rows_file)}
        environment |= servers.model_nodes(self._plan, self.setting)
        with (
            stock(self._plan, [self.name], self.setting) as baseline,
            servers.koma(self._plan, self.name, f"batching-{self.name}", **environment) as server,
        ):
            replay = Replay(server.url)
            self._warm_up(baseline, replay)
            for number in range(self._plan.pick(2, 1)):
                for load in loads:
                    self._plan.say(f"{self.name}, round {number + 1}, load {load:g}")
                    self._round(load, baseline, replay)

    def _warm_up(self, baseline: Stock, replay: Replay) -> None:
        """Also measures the rate that one at a time sustains."""
        count = self._plan.pick(16, 4)
        requests: Arrivals = [(0.0, request) for request in self._workload.requests(self.name, count)]
        replay.run(requests)
        baseline.run("whole", requests)
        latencies, _ = baseline.run("single", requests)
        self.rate = len(requests) / max(latencies)
        self._plan.say(f"{self.name}: one at a time sustains {self.rate:.2f} requests/s")

    def _round(self, load: float, baseline: Stock, replay: Replay) -> None:
        # So many that the 99th percentile of all rounds is not just the slowest of them; under the
        # greatest load, that the batch is full most of the time, not filling and running empty.
        least = self._plan.pick(7, 1) * SLOTS
        count = max(least, round(self.rate * load * self._plan.pick(3.0, 1.2)))
        requests = self._workload.requests(self.name, min(count, 200))
        times = list(self._workload.arrivals(self.rate * load, len(requests)))
        arrivals = list(zip(times, requests, strict=True))
        systems: dict[str, Callable[[], None]] = {
            KOMA: lambda: self._koma(load, arrivals, replay),
            WHOLE: lambda: self._stock(WHOLE, "whole", load, arrivals, baseline),
            SINGLE: lambda: self._stock(SINGLE, "single", load, arrivals, baseline),
        }
        order = list(systems)
        self._draw.shuffle(order)
        for name in order:
            systems[name]()

    def _koma(self, load: float, arrivals: Arrivals, replay: Replay) -> None:
        before = os.path.getsize(self._rows_file)
        followed = replay.run(arrivals)
        ends = [one.end or 0.0 for one in followed]
        first = [one.first if one.first is not None else end for one, end in zip(followed, ends, strict=True)]
        self.runs[KOMA, load].add([at for at, _ in arrivals], ends, first)
        self.batches[load].update(_rows(self._rows_file, before))

    def _stock(self, name: str, mode: str, load: float, arrivals: Arrivals, baseline: Stock) -> None:
        latencies, _ = baseline.run(mode, arrivals)
        self.runs[name, load].add([at for at, _ in arrivals], latencies, latencies)


def measure(plan: Plan) -> Finding:
    """Measure the families one after another."""
    finding = Finding("batching", "In-flight batching", TEXT)
    nodes = min(MOST_NODES, os.cpu_count() or 1)
    measure_families(
        plan, settings.emoji(nodes), plan.pick((0.5, 1.0, 2.0, SATURATION), (SATURATION,)), finding
    )
    return finding


def measure_families(plan: Plan, setting: Setting, loads: Sequence[float], finding: Finding) -> None:
    """Measure the families of ``setting`` and add what is found to ``finding``."""
    for name in FAMILIES:
        family = Family(plan, name, setting)
        family.measure(loads)
        finding.tables += [_table(family, loads), _batches(family, loads)]
        finding.bars += _bars(family, loads)
        finding.plots += _plots(family, loads, finding.section)


def _rows(path: Path, start: int) -> list[int]:
    with path.open() as file:
        file.seek(start)
        return [int(line) for line in file]


def _table(family: Family, loads: Sequence[float]) -> Table:
    rows = [[f"{load:g}", system, *family.runs[system, load].cells()] for load in loads for system in SYSTEMS]
    title = f"{family.name}: load 1 is {family.rate:.2f} requests/s"
    head = ["load", "system", "requests/s", "p50 ms", "p99 ms", "first preview or token ms (median)"]
    return Table(title, head, rows)


def _batches(family: Family, loads: Sequence[float]) -> Table:
    sizes = range(1, 9)
    rows = []
    for load in loads:
        counted = family.batches[load]
        forwards, alone = sum(counted.values()), sum(size * count for size, count in counted.items())
        saved = f"{alone - forwards} of {alone} ({100 * (alone - forwards) / max(alone, 1):.0f} %)"
        rows.append([f"{load:g}", *(str(counted[size]) for size in sizes), saved])
    head = ["load", *(f"{size} row{'s' if size > 1 else ''}" for size in sizes), "forwards saved"]
    return Table(f"{family.name}: Koma's forwards by the number of rows", head, rows)


def _bars(family: Family, loads: Sequence[float]) -> list[Bar]:
    bars = []
    worst = max(
        loads,
        key=lambda load: (
            family.runs[KOMA, load].p99 / min(family.runs[name, load].p99 for name in (WHOLE, SINGLE))
        ),
    )
    ours = family.runs[KOMA, worst].p99
    theirs = min(family.runs[name, worst].p99 for name in (WHOLE, SINGLE))
    text = f"at its worst, load {worst:g}: {1000 * ours:.0f} ms to {1000 * theirs:.0f} ms"
    bars.append(
        Bar(f"{family.name}: p99 no worse than the better of the two at every load", text, ours <= theirs)
    )
    if family.name in SATURATED:
        load = max(loads)
        ratio = family.runs[KOMA, load].throughput / family.runs[SINGLE, load].throughput
        demand = f"{family.name}: throughput at saturation ≥ {family.setting.faster:g}× one at a time"
        bars.append(Bar(demand, f"{ratio:.2f}× at load {load:g}", ratio >= family.setting.faster))
    return bars


def _plots(family: Family, loads: Sequence[float], section: str) -> list[Plot]:
    def series(value: Callable[[Runs], float]) -> dict[str, list[tuple[float | str, float]]]:
        return {system: [(load, value(family.runs[system, load])) for load in loads] for system in SYSTEMS}

    name = family.name
    return [
        Plot(f"{section}_{name}_p99", f"{name}: p99 by load", "load", "s", series(lambda r: r.p99), log="xy"),
        Plot(
            f"{section}_{name}_rate",
            f"{name}: throughput by load",
            "load",
            "requests/s",
            series(lambda runs: runs.throughput),
            log="x",
        ),
    ]
