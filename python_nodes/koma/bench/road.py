"""The road itself: jobs of the toy family that cost no model time, over one WebSocket, all guarantees on.

Each job is a submit, a join of its topic, and its events up to ``completed``: what every client does.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

NOTHING = {"task": "toy.run", "params": {"steps": 1, "step_ms": 0}}


@dataclass(frozen=True)
class Rate:
    """Jobs per second and latencies in milliseconds at one number of jobs in flight."""

    in_flight: int
    jobs: int
    per_second: float
    p50_ms: float
    p99_ms: float


class Load:
    """Keeps ``in_flight`` jobs running on one socket until ``jobs`` are done.

    It speaks the protocol by hand: with 256 jobs in flight the full client would be what is measured.
    """

    def __init__(self, socket: ClientConnection, jobs: int, in_flight: int) -> None:
        self._socket = socket
        self._jobs = jobs
        self._in_flight = in_flight
        self._refs = itertools.count(1)
        self._submitted: dict[str, float] = {}
        self._started: dict[str, float] = {}
        self._latencies: list[float] = []
        self._sent = 0

    async def run(self) -> Rate:
        """Join ``jobs``, run the load, and return its figures."""
        await self._send("1", "1", "jobs", "phx_join", {})
        begin = time.perf_counter()
        async for text in self._socket:
            await self._take(json.loads(text))
            if len(self._latencies) == self._jobs:
                break
        seconds = time.perf_counter() - begin
        ordered = sorted(self._latencies)
        p50, p99 = (1000 * ordered[int(len(ordered) * share)] for share in (0.5, 0.99))
        return Rate(self._in_flight, self._jobs, self._jobs / seconds, p50, p99)

    async def _take(self, frame: list[Any]) -> None:
        join_ref, ref, topic, event, payload = frame
        if event == "phx_reply" and payload["status"] != "ok":
            raise RuntimeError(f"{topic} answered {payload}")
        if topic == "jobs" and ref == join_ref:
            for _ in range(min(self._in_flight, self._jobs)):
                await self._submit()
        elif topic == "jobs":
            id = payload["response"]["id"]
            self._started[f"job:{id}"] = self._submitted.pop(ref)
            await self._send(ref, ref, f"job:{id}", "phx_join", {"previews": "none"})
        elif event == "completed":
            self._latencies.append(time.perf_counter() - self._started.pop(topic))
            await self._send(join_ref, str(next(self._refs)), topic, "phx_leave", {})
            if self._sent < self._jobs:
                await self._submit()
        elif event in ("failed", "cancelled", "expired"):
            raise RuntimeError(f"{topic} ended with {event}: {payload}")

    async def _submit(self) -> None:
        ref = f"s{next(self._refs)}"
        self._sent += 1
        self._submitted[ref] = time.perf_counter()
        await self._send("1", ref, "jobs", "submit", NOTHING)

    async def _send(self, join_ref: str, ref: str, topic: str, event: str, payload: dict[str, Any]) -> None:
        await self._socket.send(json.dumps([join_ref, ref, topic, event, payload]))


async def measure(url: str, in_flight: int, jobs: int) -> Rate:
    """Run ``jobs`` jobs with ``in_flight`` of them at a time against the server at ``url``."""
    address = url.replace("http", "ws", 1) + "/socket/websocket?vsn=2.0.0"
    async with connect(address, compression=None, max_size=None, ping_interval=None) as socket:
        return await Load(socket, jobs, in_flight).run()


def rates(url: str, plan: dict[int, int]) -> list[Rate]:
    """Measure each (in flight -> jobs) of ``plan``, after a warm-up."""
    asyncio.run(measure(url, 8, 50))
    return [asyncio.run(measure(url, in_flight, jobs)) for in_flight, jobs in plan.items()]
