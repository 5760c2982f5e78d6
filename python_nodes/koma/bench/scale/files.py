"""Upload and download of a large file, with the memory of the gateway meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import httpx

from koma.bench import machine, memory, servers
from koma.bench.finding import Bar, Table
from koma.bench.plan import Plan

_PIECE = 1 << 20
_FLAT_MIB = 64.0


class _Watch:
    """The most memory of the gateway while it is entered, in MiB."""

    def __init__(self, pid: int) -> None:
        self._pids = [pid for pid, name in memory.processes(pid).items() if name == "beam.smp"]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.most = 0.0

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.05):
            found = sum(machine.proportional_bytes(pid) for pid in self._pids) / machine.MEBIBYTE
            self.most = max(self.most, found)


def measure(plan: Plan) -> tuple[Table, Bar]:
    """Send a file of random bytes there and back."""
    size = plan.pick(500, 50)
    piece = plan.random("file").randbytes(_PIECE)
    with servers.koma(plan, "toy", "files") as server:
        idle = next(item.mebibytes for item in memory.measure(server.pid) if item.name == "beam.smp")
        with _Watch(server.pid) as watch:
            began = time.perf_counter()
            id = _upload(server.url, piece, size)
            up = size / (time.perf_counter() - began)
            began = time.perf_counter()
            _download(server.url, id)
            down = size / (time.perf_counter() - began)
    grown = watch.most - idle
    plan.say(f"{size} MiB: up {up:.0f} MiB/s, down {down:.0f} MiB/s, memory + {grown:.0f} MiB")
    head = [
        "file MiB",
        "upload MiB/s (hashed, synced)",
        "download MiB/s",
        "memory of the gateway: idle → most, MiB",
    ]
    row = [str(size), f"{up:.0f}", f"{down:.0f}", f"{idle:.0f} → {watch.most:.0f}"]
    demand = f"the memory of the gateway stays flat (+ {_FLAT_MIB:.0f} MiB at most) during {size} MiB"
    return Table("A large file", head, [row]), Bar(demand, f"+ {grown:.0f} MiB", grown <= _FLAT_MIB)


def _upload(url: str, piece: bytes, size: int) -> str:
    def pieces() -> Iterator[bytes]:
        for number in range(size):
            yield number.to_bytes(4, "big") + piece[4:]

    headers = {"content-type": "application/octet-stream", "content-length": str(size * _PIECE)}
    answer = httpx.post(f"{url}/v1/artifacts", content=pieces(), headers=headers, timeout=300)
    id: str = answer.raise_for_status().json()["id"]
    return id


def _download(url: str, id: str) -> None:
    with httpx.stream("GET", f"{url}/v1/artifacts/{id}", timeout=300) as answer:
        answer.raise_for_status()
        for _piece in answer.iter_raw(_PIECE):
            pass
