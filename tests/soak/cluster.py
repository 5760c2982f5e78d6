"""What the soak runs on: a Redis and two peers, started as an operator starts them, each behind a proxy.

The first peer lives from beginning to end: on it leaks would show. The second one is killed and cut off.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import httpx
from tests.end_to_end.proxy import Proxy, proxy
from tests.end_to_end.server import model_node_pids
from tests.soak.network import HERE, THERE, Network

from koma.cli.server_process import ServerProcess

KEY = "koma_secret_of_the_soak"
REDIS_PORT = 6390
MODELS = {"a": "toy:1,amused:1,smolvlm2:1,ltx_video:1", "b": "toy:1,amused:1"}
READY = 300.0  # seconds until the model nodes of a peer are loaded, on a busy machine
TICK = 4  # seconds without a sign of a peer until it is lost


class Peer:
    """One BEAM with its model nodes; clients reach it at ``url``, over a proxy that stays when it goes."""

    def __init__(self, name: str, host: str, folder: Path, network: Network) -> None:
        self.name = name
        self.host = host
        self._network = network
        self._server = ServerProcess(folder, _environment(name, host), folder / "server.log")
        self.proxy: Proxy
        self.url = ""

    @property
    def pid(self) -> int:
        """Process id of the BEAM (Mix execs it)."""
        return self._server.pid

    def model_nodes(self) -> list[int]:
        """Return the process ids of its model nodes."""
        return sorted(model_node_pids(self._server))

    async def start(self) -> None:
        """Start it, in its network, and wait until it listens."""
        await asyncio.to_thread(self._start)
        port = int(self._server.url.rpartition(":")[2])
        self._server.url = f"http://{self.host}:{port}"
        if self.url:
            self.proxy.server = (self.host, port)

    async def open(self, stack: AsyncExitStack) -> None:
        """Start it for the first time, with its proxy."""
        await self.start()
        self.proxy = await stack.enter_async_context(proxy(self._server.url))
        self.url = f"http://127.0.0.1:{self.proxy.port}"

    async def ready(self) -> None:
        """Wait until every model node is loaded."""
        await asyncio.to_thread(self._server.wait_ready, READY)

    async def stop(self) -> None:
        """Stop it as an operator does."""
        await asyncio.to_thread(self._server.stop_if_started)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the BEAM alone."""
        os.kill(self.pid, number)

    async def kill(self) -> None:
        """Kill the BEAM, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        await asyncio.to_thread(self._server.stop)

    async def metrics(self) -> str:
        """Return what it tells Prometheus."""
        async with httpx.AsyncClient(headers={"x-api-key": KEY}, timeout=20) as http:
            answer = await http.get(f"{self._server.url}/metrics")
            return answer.raise_for_status().text

    def _start(self) -> None:
        if self.host == HERE:
            self._server.start()
        else:
            with self._network.there():
                self._server.start()


class Redis:
    """A redis-server with an append-only file."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self.start()

    def start(self) -> None:
        """Start it; also after a kill, with what is in its folder."""
        options = ["--port", str(REDIS_PORT), "--protected-mode", "no", "--save", "", "--appendonly", "yes"]
        log = ["--dir", str(self._folder), "--logfile", "log"]
        self._process = subprocess.Popen(["redis-server", *options, *log])

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()


class Cluster:
    """Both peers, their Redis, and the network between them."""

    def __init__(self, network: Network, redis: Redis, a: Peer, b: Peer) -> None:
        self.network = network
        self.redis = redis
        self.a = a
        self.b = b
        self.peers = (a, b)


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Cluster]:
    """Start all of it; yield it when every model node is loaded."""
    network = Network()
    redis = Redis(folder / "redis")
    a, b = Peer("a", HERE, folder / "a", network), Peer("b", THERE, folder / "b", network)
    async with AsyncExitStack() as stack:
        stack.callback(network.close)
        stack.callback(redis.kill)
        for peer in (a, b):
            stack.push_async_callback(peer.stop)
            await peer.open(stack)
        for peer in (a, b):
            await peer.ready()
        yield Cluster(network, redis, a, b)
        with suppress(ProcessLookupError):
            b.signal(signal.SIGCONT)


def _environment(name: str, host: str) -> dict[str, str]:
    limits = " ".join(f"{limit}=none" for limit in ("rate", "jobs", "uploads", "sockets", "topics"))
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    return {
        "KOMA_NODE": f"{name}@{host}",
        "KOMA_COOKIE": "the-cookie-of-the-soak",
        "KOMA_PEERS": f"a@{HERE},b@{THERE}",
        "KOMA_TICK_S": str(TICK),
        "KOMA_BIND": host,
        "KOMA_KEYS": f"soak sha256:{digest} roles=operator {limits}",
        "KOMA_REDIS_URL": f"redis://{HERE}:{REDIS_PORT}/0",
        "KOMA_LEASE_MS": "3000",
        "KOMA_MODELS": MODELS[name],
        "OMP_NUM_THREADS": "1",
    }
