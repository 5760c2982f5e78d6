"""What the first peer uses at rest: as much at the end as after the warm-up, or it leaks."""

from __future__ import annotations

import asyncio
import os
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import httpx
from tests.soak.callers import forget
from tests.soak.cluster import KEY, Peer

SETTLE = 15.0  # seconds: sockets close, jobs that nobody knows of end
READINGS = 8
PAUSE = 1.0  # seconds between two readings; the least of each counts
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Bound:
    """How much more may be there at the end: things that come and go by themselves, a heap that was grown."""

    count: float
    share: float = 0.0

    def of(self, before: float) -> float:
        """Return the most that may be there at the end."""
        return before + self.count + before * self.share


NONE = Bound(0, -1)
BOUNDS = {
    "processes": Bound(10),
    "ports": Bound(5),
    "descriptors": Bound(10),
    "ETS tables": Bound(2),
    "ETS entries": Bound(60),
    "BEAM, MiB": Bound(16, 0.1),
    "cached results": Bound(2),
    "jobs": NONE,
    "sockets": NONE,
    "channels": NONE,
    "files under way": NONE,
}
HISTORY = "Koma.Dashboard.History"
"""The table that grows for a quarter of an hour and then no more."""
MODEL_NODE = Bound(64, 0.1)
"""MiB of the largest process of a family; one that was killed meanwhile begins with less."""


def bound(what: str) -> Bound:
    """Return the bound of a row."""
    return BOUNDS.get(what, MODEL_NODE)


class Meter:
    """Reads one peer."""

    def __init__(self, peer: Peer, folder: str) -> None:
        self._peer = peer
        self._data = folder
        self.peak: dict[str, float] = defaultdict(float)
        self.tables: dict[str, float] = {}

    async def watch(self) -> None:
        """Read now and then, for ever, for the peak."""
        while True:
            await asyncio.sleep(5)
            await self._note()

    async def at_rest(self) -> dict[str, float]:
        """Forget what has ended, wait until all is quiet, and return the least of some readings."""
        await self._forget_all()
        await asyncio.sleep(SETTLE)
        await self._forget_all()
        readings = []
        for _ in range(READINGS):
            await asyncio.sleep(PAUSE)
            readings.append(await self._read())
        return {what: min(reading[what] for reading in readings) for what in readings[0]}

    async def _note(self) -> None:
        for what, value in (await self._read()).items():
            self.peak[what] = max(self.peak[what], value)

    async def _read(self) -> dict[str, float]:
        told = parse(await self._peer.metrics())
        self.tables = told["koma_beam_table_entries"]
        memory = {
            f"{family}, MiB": value / MIB for family, value in told["koma_model_node_memory_bytes"].items()
        }
        return {
            "processes": _sum(told, "koma_beam_processes"),
            "ports": _sum(told, "koma_beam_ports"),
            "descriptors": len(os.listdir(f"/proc/{self._peer.pid}/fd")),
            "ETS tables": _sum(told, "koma_beam_tables"),
            "ETS entries": sum(size for name, size in self.tables.items() if name != HISTORY),
            "BEAM, MiB": told["koma_beam_memory_bytes"]["total"] / MIB,
            "cached results": _sum(told, "koma_cache_results"),
            "jobs": _sum(told, "koma_jobs"),
            "sockets": _sum(told, "koma_sockets"),
            "channels": _sum(told, "koma_channels"),
            "files under way": sum(len(os.listdir(f"{self._data}/{each}")) for each in ("work", "tmp")),
            **memory,
        }

    async def _forget_all(self) -> None:
        async with httpx.AsyncClient(headers={"x-api-key": KEY}, timeout=30) as http:
            while ended := [job["id"] for job in await self._ended(http)]:
                await asyncio.gather(*(forget(http, self._peer.url, id) for id in ended))

    async def _ended(self, http: httpx.AsyncClient) -> list[dict[str, str]]:
        jobs = (await http.get(f"{self._peer.url}/v1/jobs")).raise_for_status().json()
        live = ("accepted", "queued", "running", "retrying")
        return [job for job in jobs if job["state"] not in live]


LINE = re.compile(r"^(\w+)(?:\{(.*?)\})? (\S+)$", re.M)
LABEL = re.compile(r'(?:kind|family|table)="(.*?)"')


def parse(text: str) -> Mapping[str, dict[str, float]]:
    """Return Prometheus' metrics: by name, then by kind, family or table; the largest of several."""
    values: dict[str, dict[str, float]] = defaultdict(dict)
    for name, labels, value in LINE.findall(text):
        label = LABEL.search(labels)
        key = label.group(1) if label else labels
        values[name][key] = max(float(value), values[name].get(key, 0.0))
    return values


def _sum(told: Mapping[str, dict[str, float]], name: str) -> float:
    return sum(told[name].values())
