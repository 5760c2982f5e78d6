"""A server at its limits: a full queue, and the end of the server itself."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from tests.end_to_end.server import TOY, running_server

from koma.client import Client, JobHandle, RefusedError, Timing

TASK = "toy.run"
SLOW = {"steps": 10_000, "step_ms": 20}


async def test_a_full_queue_refuses_at_once_and_takes_work_again_when_there_is_room(tmp_path: Path) -> None:
    with running_server(tmp_path, {"KOMA_MODELS": "toy", "KOMA_QUEUE_LIMIT": "2"}) as server:
        async with Client(server.url) as client:
            accepted: list[JobHandle] = []
            refusal = await refused(client, SLOW, accepted)
            assert refusal.code == "overloaded"
            assert refusal.retry_after_ms is not None
            assert refusal.retry_after_ms > 0
            assert len(accepted) >= 2
            await asyncio.gather(*(job.cancel() for job in accepted))
            assert (await (await client.submit(TASK, {"steps": 1})).result()).outputs


async def test_a_server_that_is_told_to_stop_finishes_what_runs_and_takes_nothing_new(tmp_path: Path) -> None:
    with running_server(tmp_path, TOY) as server:
        async with Client(server.url, timing=Timing(reconnect_for=1)) as client:
            job = await client.submit(TASK, {"steps": 40, "step_ms": 50})
            os.kill(server.pid, signal.SIGTERM)
            async with asyncio.timeout(10):
                refusal = await refused(client, {"steps": 1}, [])
            assert refusal.code == "draining"
            assert (await job.result()).outputs
        assert server.stop() == 0


async def test_downloads_that_nobody_reads_do_not_hold_up_a_stop(tmp_path: Path) -> None:
    with running_server(tmp_path, TOY) as server:
        async with Client(server.url) as client:
            large = await (await client.submit(TASK, {"steps": 1, "output_bytes": 60_000_000})).result()
        request = f"GET {large.outputs[0].url} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()
        port = int(server.url.rpartition(":")[2])
        readers = [await asyncio.open_connection("127.0.0.1", port, limit=1) for _ in range(16)]
        for reader, writer in readers:
            writer.write(request)
            assert await reader.readexactly(8) == b"HTTP/1.1"
        async with asyncio.timeout(15):
            assert await asyncio.to_thread(server.stop) == 0
        for _, writer in readers:
            writer.transport.abort()


async def refused(client: Client, params: dict[str, int], accepted: list[JobHandle]) -> RefusedError:
    """Submit until the server refuses; return its refusal, and put what it took into ``accepted``."""
    for _ in range(1000):
        try:
            accepted.append(await client.submit(TASK, params))
        except RefusedError as error:
            return error
    raise AssertionError("the server took a thousand jobs")
