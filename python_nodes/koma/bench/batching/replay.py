"""Arrivals to Koma over one WebSocket: each is submitted at its time, followed, and timed to its end."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

from koma.bench.road.websocket import address
from koma.bench.workload import Request

_ENDS = ("completed", "failed", "cancelled", "expired")


@dataclass
class Followed:
    """One arrival: seconds from its time to what was seen of it."""

    at: float
    first: float | None = None
    """To the first preview or token."""
    end: float | None = None
    timings: dict[str, float] = field(default_factory=dict)


class Replay:
    """Plays arrivals to one server."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._uploaded: dict[str, str] = {}

    def run(self, arrivals: Sequence[tuple[float, Request]]) -> list[Followed]:
        """Return what was seen of each; raises RuntimeError where one did not complete."""
        self._upload({request.clip for _, request in arrivals if request.clip} - self._uploaded.keys())
        payloads = [self._payload(request) for _, request in arrivals]
        return asyncio.run(self._play([at for at, _ in arrivals], payloads))

    def _payload(self, request: Request) -> dict[str, Any]:
        inputs = {} if request.clip is None else {"video": self._uploaded[request.clip]}
        # Each is computed: rounds must not be answered by the results of others.
        return {"task": request.task, "params": request.params, "inputs": inputs, "cache": False}

    def _upload(self, clips: Set[str]) -> None:
        if not clips:
            return
        with httpx.Client(base_url=self._url, timeout=30) as http:
            for clip in sorted(clips):
                data = Path(clip).read_bytes()
                headers = {"content-type": "video/mp4", "x-content-sha256": hashlib.sha256(data).hexdigest()}
                answer = http.post("/v1/artifacts", content=data, headers=headers)
                self._uploaded[clip] = answer.raise_for_status().json()["id"]

    async def _play(self, times: Sequence[float], payloads: Sequence[dict[str, Any]]) -> list[Followed]:
        async with connect(address(self._url), compression=None, max_size=None, ping_interval=None) as socket:
            await socket.send(json.dumps(["1", "1", "jobs", "phx_join", {}]))
            await socket.recv()
            begin = time.perf_counter()
            sender = asyncio.create_task(_submit(socket, begin, times, payloads))
            try:
                return await _follow(socket, begin, [Followed(at) for at in times])
            finally:
                sender.cancel()


async def _submit(
    socket: ClientConnection, begin: float, times: Sequence[float], payloads: Sequence[dict[str, Any]]
) -> None:
    for number, (at, payload) in enumerate(zip(times, payloads, strict=True)):
        await asyncio.sleep(max(0.0, at - (time.perf_counter() - begin)))
        await socket.send(json.dumps(["1", f"n{number}", "jobs", "submit", payload]))


async def _follow(socket: ClientConnection, begin: float, followed: list[Followed]) -> list[Followed]:
    numbers: dict[str, int] = {}
    left = len(followed)
    while left:
        frame = await socket.recv()
        now = time.perf_counter() - begin
        if isinstance(frame, bytes):  # a binary preview: kind, sizes, join_ref, topic, event, …
            topic = frame[4 + frame[1] :][: frame[2]].decode()
            _seen(followed[numbers[topic]], now)
            continue
        _join_ref, ref, topic, event, payload = json.loads(frame)
        if event == "phx_reply" and payload["status"] != "ok":
            raise RuntimeError(f"{topic} answered {payload}")
        if event == "phx_reply" and topic == "jobs":
            topic = f"job:{payload['response']['id']}"
            numbers[topic] = int(ref[1:])
            await socket.send(json.dumps([ref, ref, topic, "phx_join", {"previews": "binary"}]))
        elif event == "token":
            _seen(followed[numbers[topic]], now)
        elif event in _ENDS:
            left -= 1
            _ended(followed[numbers[topic]], now, event, payload)
            await socket.send(json.dumps([_join_ref, f"l{left}", topic, "phx_leave", {}]))
    return followed


def _seen(one: Followed, now: float) -> None:
    if one.first is None:
        one.first = now - one.at


def _ended(one: Followed, now: float, event: str, payload: dict[str, Any]) -> None:
    if event != "completed":
        raise RuntimeError(f"a job ended with {event}: {payload}")
    one.end = now - one.at
    one.timings = payload["timings"]
