"""Memory of idle sockets, each joined to the topic ``jobs``."""

from __future__ import annotations

import asyncio
import time

from koma.bench import memory, servers
from koma.bench.finding import Bar, Table
from koma.bench.plan import Plan
from koma.bench.scale import crowd

LIMIT_KB = 15.0
SETTLE_S = 3.0
"""Until sockets and topics that are idle have shrunk."""


def measure(plan: Plan) -> tuple[Table, Bar]:
    """Open them and weigh the gateway before and after."""
    count = plan.pick(10_000, 1_000)
    crowd.room_for(count + 1_000)
    with servers.koma(plan, "toy", "sockets") as server:
        return asyncio.run(_weigh(plan, server.url, server.pid, count))


async def _weigh(plan: Plan, url: str, pid: int, count: int) -> tuple[Table, Bar]:
    await crowd.close(await crowd.join(url, 50, "jobs", {}))
    await asyncio.sleep(SETTLE_S)
    before = _beam(pid), servers.total(url, "koma_beam_memory_bytes")
    began = time.perf_counter()
    members = await crowd.join(url, count, "jobs", {})
    seconds = time.perf_counter() - began
    await asyncio.sleep(SETTLE_S)
    after = _beam(pid), servers.total(url, "koma_beam_memory_bytes")
    resident, counted = (1e-3 * (new - old) / count for new, old in zip(after, before, strict=True))
    await crowd.close(members)
    plan.say(f"{count} idle sockets: {resident:.1f} kB each")
    row = [f"{count}", f"{resident:.1f}", f"{counted:.1f}", f"{count / seconds:.0f}"]
    head = ["sockets", "kB each (resident, Pss)", "kB each (as the BEAM counts)", "joins per second"]
    bar = Bar(
        f"an idle joined socket takes ≤ {LIMIT_KB:g} kB",
        f"{resident:.1f} kB of {count}",
        resident <= LIMIT_KB,
    )
    return Table("Idle sockets", head, [row]), bar


def _beam(pid: int) -> float:
    return sum(1024 * 1024 * item.mebibytes for item in memory.measure(pid) if item.name == "beam.smp")
