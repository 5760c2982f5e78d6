"""The section ``table``: each model and all three together, against a plain script."""

from __future__ import annotations

from collections import defaultdict

from koma.bench import servers
from koma.bench.batching.replay import Replay
from koma.bench.finding import Bar, Finding, Plot, Table
from koma.bench.plan import Plan
from koma.bench.spread import median, spread
from koma.bench.stock.process import Stock, stock
from koma.bench.workload import FAMILIES, Request, Workload

MIXED = "all three"
CLAIMED = {"smolvlm2": 2.9, "amused": 4.3, "ltx_video": 3.8, MIXED: 3.7}
"""What another server claims for the same comparison, on its own hardware."""
DEMANDED = 2.0

TEXT = """The same requests, all there at once: a plain Python script of one process, with the stock
pipelines loaded once and called one request after another, as their documentation shows; and Koma with the
default model nodes. Loading is not counted. The mixed load has equally many of each model in random order.
Both have all cores; the rounds alternate."""


def measure(plan: Plan) -> Finding:
    """Measure the four workloads in every round."""
    draw = plan.random("table")
    workload = Workload(draw, plan.folder("clips"))
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    counts: dict[str, int] = {}
    with (
        stock(plan, FAMILIES) as script,
        servers.koma(plan, "smolvlm2,amused,ltx_video", "table") as server,
    ):
        replay = Replay(server.url)
        rates = {family: _warm_up(plan, workload, family, script, replay) for family in FAMILIES}
        for number in range(plan.rounds):
            for name in (*FAMILIES, MIXED):
                requests = _requests(plan, workload, name, rates)
                draw.shuffle(requests)
                counts[name] = len(requests)
                plan.say(f"round {number + 1}, {name}: {len(requests)} requests")
                arrivals = [(0.0, request) for request in requests]
                for system in draw.sample(["script", "Koma"], 2):
                    ends = (
                        script.run("single", arrivals)[0] if system == "script" else _ends(replay, arrivals)
                    )
                    seconds[name, system].append(max(ends))
    return _finding(seconds, counts)


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


def _finding(seconds: dict[tuple[str, str], list[float]], counts: dict[str, int]) -> Finding:
    finding = Finding("table", "The three models, against a plain script", TEXT)
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
    finding.tables = [Table("", head, rows)]
    for name, reached in ratios.items():
        if name == MIXED:
            demand = f"the mixed load ≥ {DEMANDED:g}× on this machine"
            finding.bars.append(Bar(demand, f"{median(reached):.2f}×", median(reached) >= DEMANDED))
    points: list[tuple[float | str, float]] = [(name, median(reached)) for name, reached in ratios.items()]
    claimed: list[tuple[float | str, float]] = list(CLAIMED.items())
    series = {"Koma": points, "claimed elsewhere": claimed}
    finding.plots = [Plot("table", "Times faster than a plain script", "", "×", series, "bar")]
    return finding
