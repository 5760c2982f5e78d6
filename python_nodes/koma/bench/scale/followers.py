"""The previews of one job to many followers, each on a socket of its own."""

from __future__ import annotations

import asyncio
import time

import httpx

from koma.bench import memory, servers
from koma.bench.finding import Table
from koma.bench.plan import Plan
from koma.bench.scale import crowd

_TEXT, _BINARY = 1, 2
_PREVIEW_BYTES = 8192


def measure(plan: Plan) -> Table:
    """Follow one job with 1, 100 and 1000 sockets."""
    crowd.room_for(3_000)
    rows = []
    with servers.koma(plan, "toy", "followers") as server:
        for count in plan.pick((1, 100, 1_000), (1, 200)):
            for form in ("base64", "binary"):
                rows.append(asyncio.run(_follow(plan, server.url, server.pid, count, form)))
    head = [
        "followers",
        "form",
        "previews told",
        "processor µs per preview and follower",
        "lag of the end ms",
    ]
    return Table(f"One job's previews of {_PREVIEW_BYTES} bytes, ten a second, to many followers", head, rows)


async def _follow(plan: Plan, url: str, pid: int, count: int, form: str) -> list[str]:
    gateway = {pid: name for pid, name in memory.processes(pid).items() if name == "beam.smp"}
    params = {"steps": plan.pick(80, 30), "step_ms": 50, "preview_bytes": _PREVIEW_BYTES}
    # It waits behind jobs that keep the only slots busy until everybody has joined.
    request = {"task": "toy.run", "params": params, "on_disconnect": "keep"}
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        blockers = [await _post(client, {"steps": 10_000, "step_ms": 50}) for _ in range(8)]
        job = (await client.post("/v1/jobs", json=request)).raise_for_status().json()["id"]
        members = await crowd.join(url, count, f"job:{job}", {"previews": form})
        used = servers.cpu_seconds(gateway)["beam.smp"]
        for blocker in blockers:
            await client.delete(f"/v1/jobs/{blocker}")
        seen = await asyncio.gather(*(_until_the_end(member) for member in members))
        used = servers.cpu_seconds(gateway)["beam.smp"] - used
    await crowd.close(members)
    previews, ends = [told for told, _ in seen], [end for _, end in seen]
    plan.say(f"{count} followers, {form}: {sum(previews)} previews")
    each = 1e6 * used / max(sum(previews), 1)
    told = f"{min(previews)}-{max(previews)}"
    return [str(count), form, told, f"{each:.0f}", f"{1000 * (max(ends) - min(ends)):.1f}"]


async def _post(client: httpx.AsyncClient, params: dict[str, int]) -> str:
    request = {"task": "toy.run", "params": params, "on_disconnect": "keep"}
    id: str = (await client.post("/v1/jobs", json=request)).raise_for_status().json()["id"]
    return id


async def _until_the_end(member: crowd.Member) -> tuple[int, float]:
    previews = 0
    while True:
        opcode, payload = await member.frame()
        if opcode == _BINARY or (opcode == _TEXT and b',"preview",' in payload[:120]):
            previews += 1
        elif b',"completed",' in payload[:120]:
            return previews, time.perf_counter()
