"""One peer and three: jobs that sleep, all submitted to the first peer, run on the model nodes of all."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from contextlib import ExitStack

from koma.bench import servers
from koma.bench.finding import Bar, Table
from koma.bench.plan import Plan
from koma.bench.road import websocket

DEMANDED = 2.7
STEP_MS = 50
STEPS = 4
SLOTS = 8
PORTS = "9100-9199"
_JOB = {"task": "toy.run", "params": {"steps": STEPS, "step_ms": STEP_MS}}


def measure(plan: Plan) -> tuple[Table, Bar]:
    """Measure the throughput with one peer, then with three."""
    rates = {count: _rate(plan, count) for count in (1, 3)}
    rows = [[str(count), f"{rate:.1f}"] for count, rate in rates.items()]
    ratio = rates[3] / rates[1]
    title = f"Peers on this machine, {SLOTS} slots each, jobs that sleep {STEPS * STEP_MS} ms"
    bar = Bar(f"three peers do ≥ {DEMANDED}× the work of one", f"{ratio:.2f}×", ratio >= DEMANDED)
    return Table(title, ["peers", "jobs/s"], rows), bar


def _rate(plan: Plan, count: int) -> float:
    mark = f"{os.getpid()}x{count}"
    names = [f"bench{number}x{mark}@127.0.0.1" for number in range(count)]
    cookie = secrets.token_hex(16)
    with ExitStack() as stack:
        first, *_others = [
            stack.enter_context(
                servers.koma(
                    plan,
                    "toy",
                    f"peer-{number}",
                    KOMA_NODE=name,
                    KOMA_COOKIE=cookie,
                    KOMA_PEERS=",".join(names),
                    KOMA_DIST_PORTS=PORTS,
                )
            )
            for number, name in enumerate(names)
        ]
        _wait_for_slots(first.url, count * SLOTS)
        jobs = plan.pick(60, 12) * count
        rate, _ = asyncio.run(websocket.run(first.url, 2 * SLOTS * count, jobs, _JOB))
        plan.say(f"{count} peers: {rate.per_second:.1f} jobs/s")
        return rate.per_second


def _wait_for_slots(url: str, slots: int, seconds: float = 60.0) -> None:
    """Wait until the first peer may use the slots of all."""
    give_up = time.monotonic() + seconds
    while True:
        seen = sum(int(model["slots"]) for model in servers.models(url))
        if seen >= slots:
            return
        if time.monotonic() > give_up:
            raise RuntimeError(
                f"the peers did not find each other: {seen} of {slots} slots after {seconds:g} s"
            )
        time.sleep(0.2)
