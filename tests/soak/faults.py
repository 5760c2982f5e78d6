"""Everything that can fail, one after the other; each returns when it is mended."""

from __future__ import annotations

import asyncio
import json
import os
import random
import select
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tests.soak.callers import PATIENCE, Caller
from tests.soak.cluster import KEY, TICK, Cluster, Peer
from tests.soak.ledger import Ledger, Story
from tests.soak.work import Work, some
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from koma.client import Event
from koma.client.events import parse_job_event

LONG = Work("toy", 0)  # of more steps than the others, so with a result of its own
BURST = 40
DROPS = 200
UPLOADS = 20
DOWN = 5.0  # seconds that a server stays away
HANG = 90.0  # seconds until a model node that hangs is replaced, at most


@dataclass(frozen=True, slots=True)
class Stage:
    """Where faults happen; ``cut`` is how long the network is cut, in seconds."""

    cluster: Cluster
    ledger: Ledger
    cut: float


Fault = Callable[[Stage], Awaitable[None]]


async def model_node_killed(stage: Stage) -> None:
    """SIGKILL of a model node."""
    os.kill(random.choice(_model_nodes(stage)), signal.SIGKILL)


async def model_node_hangs(stage: Stage) -> None:
    """A model node stops; it must be killed and replaced."""
    pid = random.choice(_model_nodes(stage))
    os.kill(pid, signal.SIGSTOP)
    if not await asyncio.to_thread(_ends, pid, HANG):
        stage.ledger.breach(f"model node {pid} hung for {HANG:g} s and was not killed")


async def peer_stopped(stage: Stage) -> None:
    """SIGTERM of a peer, and its start."""
    await stage.cluster.b.stop()
    await _start_again(stage.cluster.b)


async def peer_killed(stage: Stage) -> None:
    """SIGKILL of a BEAM, and its start."""
    await stage.cluster.b.kill()
    await _start_again(stage.cluster.b)


async def peer_hangs(stage: Stage) -> None:
    """A BEAM stops for longer than the others wait, and goes on."""
    stage.cluster.b.signal(signal.SIGSTOP)
    await asyncio.sleep(2 * TICK)
    stage.cluster.b.signal(signal.SIGCONT)


async def network_cut(stage: Stage) -> None:
    """Packets between the peers, to Redis, and to clients are lost, without a sign."""
    stage.cluster.network.cut()
    await asyncio.sleep(stage.cut)
    stage.cluster.network.heal()


async def redis_killed(stage: Stage) -> None:
    """SIGKILL of Redis, and its start."""
    stage.cluster.redis.kill()
    await asyncio.sleep(DOWN)
    stage.cluster.redis.start()


async def redis_hangs(stage: Stage) -> None:
    """Redis answers nothing for a while."""
    stage.cluster.redis.signal(signal.SIGSTOP)
    await asyncio.sleep(DOWN)
    stage.cluster.redis.signal(signal.SIGCONT)


async def cancel_burst(stage: Stage) -> None:
    """Many jobs are asked for and cancelled at random moments, each twice."""
    caller = Caller(stage.cluster.peers, stage.ledger)
    await asyncio.gather(*(_submit_and_cancel(caller) for _ in range(BURST)))
    await caller.close()


async def sockets_dropped(stage: Stage) -> None:
    """All connections of clients break; many more come and break at once."""
    for peer in stage.cluster.peers:
        peer.proxy.cut()
    await asyncio.gather(*(_drop(stage.cluster.a) for _ in range(DROPS)))


async def uploads_cut(stage: Stage) -> None:
    """Uploads that break half-way."""
    peer = stage.cluster.a
    for _ in range(UPLOADS):
        reader, writer = await asyncio.open_connection("127.0.0.1", peer.proxy.port)
        head = f"POST /v1/artifacts HTTP/1.1\r\nhost: localhost\r\nx-api-key: {KEY}\r\n"
        writer.write(f"{head}content-length: 1000000\r\n\r\n".encode() + os.urandom(300_000))
        with suppress(ConnectionError):
            await writer.drain()
        writer.transport.abort()
        del reader


async def slow_reader(stage: Stage) -> None:
    """A client reads nothing while large previews come, then reads on: every event is there."""
    async with connect(_socket(stage.cluster.a), max_size=None, max_queue=4) as socket:
        params = {"steps": 200, "step_ms": 40, "preview_bytes": 200_000, "seed": LONG.seed}
        request = {"task": "toy.run", "params": params, "on_disconnect": "keep", "cache": False}
        await _ask(socket, "jobs", "phx_join", {})
        answer = await _ask(socket, "jobs", "submit", request)
        if answer["status"] == "ok":
            story = stage.ledger.accept(answer["response"]["id"], LONG)
            await _read_late(socket, story, stage.ledger)


FAULTS: tuple[Fault, ...] = (
    model_node_killed, model_node_hangs, peer_stopped, peer_killed, peer_hangs, network_cut,
    redis_killed, redis_hangs, cancel_burst, sockets_dropped, uploads_cut, slow_reader,
)  # fmt: skip


def _model_nodes(stage: Stage) -> list[int]:
    return [pid for peer in stage.cluster.peers for pid in peer.model_nodes()]


async def _drop(peer: Peer) -> None:
    with suppress(OSError, WebSocketException, TimeoutError):
        socket = await connect(_socket(peer), open_timeout=20)
        await socket.send(json.dumps(["1", "1", "jobs", "phx_join", {}]))
        socket.transport.abort()


def _ends(pid: int, seconds: float) -> bool:
    process = os.pidfd_open(pid)
    try:
        return bool(select.select([process], [], [], seconds)[0])
    finally:
        os.close(process)


async def _start_again(peer: Peer) -> None:
    await asyncio.sleep(DOWN)
    await peer.start()
    await peer.ready()


async def _submit_and_cancel(caller: Caller) -> None:
    if (story := await caller.submit(some("toy"))) is not None:
        following = asyncio.create_task(caller.follow(story))
        for _ in range(2):
            await asyncio.sleep(random.uniform(0, 1))
            await caller.cancel(story)
        await following


def _socket(peer: Peer) -> str:
    return peer.url.replace("http", "ws", 1) + f"/socket/websocket?vsn=2.0.0&api_key={KEY}"


async def _ask(socket: ClientConnection, topic: str, event: str, payload: Mapping[str, Any]) -> Any:
    await socket.send(json.dumps(["1", "1", topic, event, payload]))
    return json.loads(await socket.recv())[4]


async def _read_late(socket: ClientConnection, story: Story, ledger: Ledger) -> None:
    topic = f"job:{story.id}"
    await socket.send(json.dumps(["2", "2", topic, "phx_join", {}]))
    # Longer than the job runs; the library reads no more than a few messages ahead.
    await asyncio.sleep(2 * DOWN)
    async with asyncio.timeout(PATIENCE):
        while story.end is None:
            _ref, _join, told, name, payload = json.loads(await socket.recv())
            if told == topic and not name.startswith(("phx_", "preview")):
                event = parse_job_event(name, payload)
                assert isinstance(event, Event)
                ledger.tell(story, event)
