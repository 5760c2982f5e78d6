"""A long queue: whether a submit costs as much at its end as at its beginning."""

from __future__ import annotations

import asyncio
import json
import time

from websockets.asyncio.client import connect

from koma.bench import memory, servers
from koma.bench.finding import Bar, Plot, Table
from koma.bench.plan import Plan
from koma.bench.road.websocket import address

_UNDER_WAY = 64
_SHARE = 0.9
_BLOCKER = {"task": "toy.run", "params": {"steps": 10_000, "step_ms": 60_000}, "on_disconnect": "keep"}
_WAITING = {
    "task": "toy.run",
    "params": {"steps": 1, "step_ms": 60_000},
    "on_disconnect": "keep",
    "priority": "batch",
}


def measure(plan: Plan) -> tuple[Table, Bar, Plot]:
    """Fill the queue behind jobs that never end, and time each tenth of the submits."""
    jobs = plan.pick(100_000, 3_000)
    with servers.koma(plan, "toy", "queue") as server:
        before = _beam(server.pid)
        rates = asyncio.run(_fill(plan, server.url, jobs))
        grown = (_beam(server.pid) - before) / jobs * 1024
    share = rates[-1] / rates[0]
    head = ["jobs", "submits/s, first tenth", "last tenth", "kB of memory per waiting job"]
    table = Table("A long queue", head, [[str(jobs), f"{rates[0]:.0f}", f"{rates[-1]:.0f}", f"{grown:.1f}"]])
    demand = f"with {jobs} jobs waiting, submits at ≥ 90 % of the first rate"
    bar = Bar(demand, f"{100 * share:.0f} %", share >= _SHARE)
    points: list[tuple[float | str, float]] = [((k + 1) * jobs / 10, rate) for k, rate in enumerate(rates)]
    return (
        table,
        bar,
        Plot("scale_queue", "Submits as the queue grows", "jobs that wait", "submits/s", {"Koma": points}),
    )


async def _fill(plan: Plan, url: str, jobs: int) -> list[float]:
    async with connect(address(url), compression=None, max_size=None, ping_interval=None) as socket:
        await socket.send(json.dumps(["1", "1", "jobs", "phx_join", {}]))
        await socket.recv()
        for number in range(8):
            await socket.send(json.dumps(["1", f"b{number}", "jobs", "submit", _BLOCKER]))
            await socket.recv()
        text = json.dumps(_WAITING)
        rates, answered, sent, began = [], 0, 0, time.perf_counter()
        while answered < jobs:
            while sent < jobs and sent - answered < _UNDER_WAY:
                sent += 1
                await socket.send(f'["1","{sent}","jobs","submit",{text}]')
            reply = await socket.recv()
            if '"status":"ok"' not in str(reply[:100]):
                raise RuntimeError(f"a submit was answered {reply[:300]!r}")
            answered += 1
            if answered % (jobs // 10) == 0:
                rates.append(jobs / 10 / (time.perf_counter() - began))
                began = time.perf_counter()
                plan.say(f"{answered} jobs wait: {rates[-1]:.0f} submits/s")
        return rates


def _beam(pid: int) -> float:
    return sum(item.mebibytes for item in memory.measure(pid) if item.name == "beam.smp")
