"""The section ``table``: each model and all three together, against a plain script."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping

from koma.bench import servers
from koma.bench import setting as settings
from koma.bench.batching.replay import Replay
from koma.bench.finding import Bar, Finding, Plot, Table
from koma.bench.plan import Plan
from koma.bench.setting import FAMILIES, Setting
from koma.bench.spread import median, spread
from koma.bench.stock.process import Stock, stock
from koma.bench.workload import Request, Workload

MIXED = "all three"
CLAIMED = {"smolvlm2": 2.9, "amused": 4.3, "ltx_video": 3.8, MIXED: 3.7}
"""What another server claims for the same comparison, on its own hardware."""
Seconds = dict[tuple[str, str], list[float]]
"""(workload, "script" or "Koma") -> what it took in each round."""

TEXT = """The same requests, all there at once: a plain Python script of one process, with the stock
pipelines loaded once and called one request after another, as their documentation shows; and Koma with the
default model nodes. Loading is not counted. The mixed load has equally many of each model in random order.
Both have all cores; the rounds alternate."""


def measure(plan: Plan) -> Finding:
    """Measure the checkpoints that ship."""
    finding = Finding("table", "The three models, against a plain script", TEXT)
    demanded = {MIXED: settings.emoji().faster}
    measure_workloads(plan, settings.emoji(), demanded, finding)
    return finding


def measure_workloads(plan: Plan, setting: Setting, demanded: Mapping[str, float], finding: Finding) -> None:
    """Measure the four workloads in every round, and add what is found to ``finding``.

    ``demanded``: workload -> how many times faster than the script it has to be.
    """
    draw = plan.random("table")
    workload = Workload(draw, plan.folder("clips"), setting)
    nodes = servers.model_nodes(plan, setting)
    with (
        stock(plan, FAMILIES, setting) as script,
        servers.koma(plan, ",".join(FAMILIES), finding.section, **nodes) as server,
    ):
        seconds, counts = _rounds(plan, draw, workload, script, Replay(server.url))
    _add(finding, seconds, counts, demanded)


def _rounds(
    plan: Plan, draw: random.Random, workload: Workload, script: Stock, replay: Replay
) -> tuple[Seconds, dict[str, int]]:
    seconds: Seconds = defaultdict(list)
    counts: dict[str, int] = {}
    rates = {family: _warm_up(plan, workload, family, script, replay) for family in FAMILIES}
    for number in range(plan.rounds):
        for name in (*FAMILIES, MIXED):
            requests = _requests(plan, workload, name, rates)
            draw.shuffle(requests)
            counts[name] = len(requests)
            plan.say(f"round {number + 1}, {name}: {len(requests)} requests")
            arrivals = [(0.0, request) for request in requests]
            for system in draw.sample(["script", "Koma"], 2):
                ends = script.run("single", arrivals)[0] if system == "script" else _ends(replay, arrivals)
                seconds[name, system].append(max(ends))
    return seconds, counts


def _ends(replay: Replay, arrivals: list[tuple[float, Request]]) -> list[float]:
    return [one.end or 0.0 for one in replay.run(arrivals)]


def _warm_up(plan: Plan, workload: Workload, family: str, script: Stock, replay: Replay) -> float:
    """Return requests per second of the script."""
    arrivals = [(0.0, request) for request in workload.requests(family, 4)]
    replay.run(arrivals)
    script.run("single", arrivals)
    rate = len(arrivals) / max(script.run("single", arrivals)[0])
    plan.say(f"{family}: the script does {rate:.2f} requests/s")
    return rate


def _requests(plan: Plan, workload: Workload, name: str, rates: dict[str, float]) -> list[Request]:
    """So many that the script needs some seconds."""
    seconds = plan.pick(8.0, 2.0)
    if name != MIXED:
        return workload.requests(name, max(8, min(96, round(rates[name] * seconds))))
    each = max(4, min(32, round(seconds / sum(1 / rate for rate in rates.values()))))
    return [request for family in FAMILIES for request in workload.requests(family, each)]


def _add(
    finding: Finding, seconds: Seconds, counts: Mapping[str, int], demanded: Mapping[str, float]
) -> None:
    ratios = {
        name: [
            script / koma for script, koma in zip(seconds[name, "script"], seconds[name, "Koma"], strict=True)
        ]
        for name in counts
    }
    rows = [
        [
            name,
            str(count),
            spread(seconds[name, "script"], 2),
            spread(seconds[name, "Koma"], 2),
            f"{spread(ratios[name], 2)}×",
            f"{CLAIMED[name]}×",
        ]
        for name, count in counts.items()
    ]
    head = ["workload", "requests", "script s", "Koma s", "faster", "claimed elsewhere"]
    finding.tables.append(Table("All requests there at once", head, rows))
    for name, least in demanded.items():
        reached = median(ratios[name])
        words = f"{name}: ≥ {least:g}× the script's throughput"
        finding.bars.append(Bar(words, f"{reached:.2f}×", reached >= least))
    points: list[tuple[float | str, float]] = [(name, median(reached)) for name, reached in ratios.items()]
    claimed: list[tuple[float | str, float]] = list(CLAIMED.items())
    series = {"Koma": points, "claimed elsewhere": claimed}
    finding.plots.append(Plot(finding.section, "Times faster than a plain script", "", "×", series, "bar"))
