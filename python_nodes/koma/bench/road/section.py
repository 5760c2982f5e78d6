"""The section ``road``: no-op jobs per second and latency, Koma beside its alternatives."""

from __future__ import annotations

from collections.abc import Callable

from koma.bench import environment, servers
from koma.bench.finding import Bar, Finding, Plot, Table
from koma.bench.plan import Plan
from koma.bench.road import breakdown, http, websocket
from koma.bench.road.figures import Figures
from koma.bench.road.rivals.process import SCRIPTS, rival, version

KOMA_WS, KOMA_HTTP = "Koma, WebSocket", "Koma, HTTP"
IN_FLIGHT = (1, 32, 256)
DEMANDS = {"LitServe": 10, "Ray Serve": 20}
"""Alternative -> how many times its rate is demanded."""
MODELS = "toy"

TEXT = """No-op jobs of the `toy` family (one step of 0 ms): no model time, so what is measured is the road.
Koma does all that it promises meanwhile: each job is stored and synced before it is accepted, its events
are numbered and stored, its end is synced. The alternatives run the no-op of their documentation with one
worker and store nothing. HTTP is measured by `wrk` with one thread for all; the WebSocket by a client in
Python that submits, joins, reads every event and leaves, and shares the cores with the server. One server
runs at a time; the rounds alternate in random order. Figures are medians of the rounds, with the least and
the most in parentheses."""


def measure(plan: Plan) -> Finding:
    """Measure every server in every round."""
    figures = Figures()
    runs: dict[str, Callable[[], None]] = {"Koma": lambda: _koma(plan, figures)}
    if environment.available():
        for name in SCRIPTS:
            runs[name] = lambda name=name: _rival(plan, name, figures)  # type: ignore[misc]
    else:
        plan.say("alternatives are left out: .venv-bench is not there (scripts/setup.sh bench)")
    order, draw = list(runs), plan.random("road")
    for number in range(plan.rounds):
        draw.shuffle(order)
        plan.say(f"round {number + 1} of {plan.rounds}: {', '.join(order)}")
        for name in order:
            runs[name]()
    spans = breakdown.measure(plan)
    finding = Finding("road", "The road: no-op jobs", TEXT)
    finding.tables = [_table(figures), *spans.tables]
    finding.bars = [*_bars(figures), *spans.bars]
    finding.plots = [*_plots(figures), *spans.plots]
    return finding


def _koma(plan: Plan, figures: Figures) -> None:
    with servers.koma(plan, MODELS, "road") as server:
        websocket.measure(server.url, 32, 200)
        for in_flight in IN_FLIGHT:
            jobs = plan.pick({1: 1000, 32: 4000, 256: 6000}, {1: 200, 32: 800, 256: 800})[in_flight]
            rate = websocket.measure(server.url, in_flight, jobs)
            figures.add(KOMA_WS, in_flight, rate.per_second, rate.p50_ms, rate.p99_ms)
            plan.say(f"{KOMA_WS}, {in_flight} in flight: {rate.per_second:.0f}/s")
        _http(plan, KOMA_HTTP, f"{server.url}/v1/jobs?wait=true", figures)


def _rival(plan: Plan, name: str, figures: Figures) -> None:
    try:
        with rival(plan, name) as url:
            _http(plan, name, url, figures)
        figures.versions[name] = version(name)
    except RuntimeError as error:
        plan.say(f"{name} is left out of this round: {error}")


def _http(plan: Plan, name: str, url: str, figures: Figures) -> None:
    http.measure(url, 32, 1)
    for in_flight in IN_FLIGHT:
        rate = http.measure(url, in_flight, plan.pick(5, 1))
        figures.add(name, in_flight, rate.per_second, rate.p50_ms, rate.p99_ms)
        plan.say(f"{name}, {in_flight} in flight: {rate.per_second:.0f}/s")


def _table(figures: Figures) -> Table:
    rows = [
        [figures.title(name), str(in_flight), *figures.spreads(name, in_flight)]
        for name in figures.names()
        for in_flight in IN_FLIGHT
    ]
    return Table("", ["server", "in flight", "jobs/s", "p50 ms", "p99 ms"], rows)


def _bars(figures: Figures) -> list[Bar]:
    bars = []
    for name, times in DEMANDS.items():
        if not figures.has(name):
            bars.append(
                Bar(f"≥ {times}× {name}'s rate at 32 in flight, with lower p99", "not measured", False)
            )
            continue
        theirs, p99 = figures.rate(name, 32), figures.p99(name, 32)
        best = max((KOMA_WS, KOMA_HTTP), key=lambda koma: figures.rate(koma, 32))
        ratio, ours = figures.rate(best, 32) / theirs, figures.p99(best, 32)
        measured = f"{ratio:.2f}× ({best}), p99 {ours:.1f} ms to {p99:.1f} ms"
        demand = f"≥ {times}× {name}'s rate at 32 in flight, with lower p99"
        bars.append(Bar(demand, measured, ratio >= times and ours < p99))
    return bars


def _plots(figures: Figures) -> list[Plot]:
    rates: dict[str, list[tuple[float | str, float]]] = {
        name: [(f"{in_flight} in flight", figures.rate(name, in_flight)) for in_flight in IN_FLIGHT]
        for name in figures.names()
    }
    return [Plot("road", "No-op jobs per second (log scale)", "", "jobs/s", rates, "bar", "y")]
