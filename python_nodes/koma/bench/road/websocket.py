"""No-op jobs over one WebSocket, all guarantees on.

Each job is a submit, a join of its topic, and its events up to ``completed``: what every client does.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from koma.bench.spread import percentile

NOTHING: Mapping[str, Any] = {"task": "toy.run", "params": {"steps": 1, "step_ms": 0}}


@dataclass(frozen=True)
class Rate:
    """Jobs per second and latencies in milliseconds at one number of jobs in flight."""

    in_flight: int
    jobs: int
    per_second: float
    p50_ms: float
    p99_ms: float


@dataclass
class Traffic:
    """Frames and bytes that travelled between client and server."""

    sent: int = 0
    sent_bytes: int = 0
    received: int = 0
    received_bytes: int = 0


@dataclass
class Load:
    """Keeps ``in_flight`` jobs running on one socket until ``jobs`` are done.

    It speaks the protocol by hand: with 256 jobs in flight the full client would be what is measured.
    """

    socket: ClientConnection
    jobs: int
    in_flight: int
    request: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    traffic: Traffic = field(default_factory=Traffic)
    completed: list[dict[str, Any]] = field(default_factory=list)
    """The payloads of the last events."""

    def __post_init__(self) -> None:
        self._refs = itertools.count(1)
        self._submitted: dict[str, float] = {}
        self._started: dict[str, float] = {}
        self.latencies: list[float] = []
        self._sent = 0

    async def run(self) -> Rate:
        """Join ``jobs``, run the load, and return its figures."""
        await self._send("1", "1", "jobs", "phx_join", {})
        begin = time.perf_counter()
        async for text in self.socket:
            self.traffic.received += 1
            self.traffic.received_bytes += len(text)
            await self._take(json.loads(text))
            if len(self.latencies) == self.jobs:
                break
        seconds = time.perf_counter() - begin
        p50, p99 = (1000 * percentile(self.latencies, share) for share in (0.5, 0.99))
        return Rate(self.in_flight, self.jobs, self.jobs / seconds, p50, p99)

    async def _take(self, frame: list[Any]) -> None:
        join_ref, ref, topic, event, payload = frame
        if event == "phx_reply" and payload["status"] != "ok":
            raise RuntimeError(f"{topic} answered {payload}")
        if topic == "jobs" and ref == join_ref:
            for _ in range(min(self.in_flight, self.jobs)):
                await self._submit()
        elif topic == "jobs":
            id = payload["response"]["id"]
            self._started[f"job:{id}"] = self._submitted.pop(ref)
            await self._send(ref, ref, f"job:{id}", "phx_join", {"previews": "none"})
        elif event == "completed":
            await self._complete(join_ref, topic, payload)
        elif event in ("failed", "cancelled", "expired"):
            raise RuntimeError(f"{topic} ended with {event}: {payload}")

    async def _complete(self, join_ref: str, topic: str, payload: dict[str, Any]) -> None:
        self.latencies.append(time.perf_counter() - self._started.pop(topic))
        self.completed.append(payload)
        await self._send(join_ref, str(next(self._refs)), topic, "phx_leave", {})
        if self._sent < self.jobs:
            await self._submit()

    async def _submit(self) -> None:
        ref = f"s{next(self._refs)}"
        self._sent += 1
        self._submitted[ref] = time.perf_counter()
        await self._send("1", ref, "jobs", "submit", self.request)

    async def _send(
        self, join_ref: str, ref: str, topic: str, event: str, payload: Mapping[str, Any]
    ) -> None:
        text = json.dumps([join_ref, ref, topic, event, payload])
        self.traffic.sent += 1
        self.traffic.sent_bytes += len(text)
        await self.socket.send(text)


def address(url: str) -> str:
    """Return the address of the WebSocket of the server at ``url``."""
    return url.replace("http", "ws", 1) + "/socket/websocket?vsn=2.0.0"


async def run(url: str, in_flight: int, jobs: int, request: Mapping[str, Any] = NOTHING) -> tuple[Rate, Load]:
    """Run ``jobs`` jobs with ``in_flight`` of them at a time against the server at ``url``."""
    async with connect(address(url), compression=None, max_size=None, ping_interval=None) as socket:
        load = Load(socket, jobs, in_flight, request)
        return await load.run(), load


def measure(url: str, in_flight: int, jobs: int) -> Rate:
    """As :func:`run`, from code that is not async."""
    return asyncio.run(run(url, in_flight, jobs))[0]
