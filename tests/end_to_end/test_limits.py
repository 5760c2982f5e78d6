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


async def refused(client: Client, params: dict[str, int], accepted: list[JobHandle]) -> RefusedError:
    """Submit until the server refuses; return its refusal, and put what it took into ``accepted``."""
    for _ in range(1000):
        try:
            accepted.append(await client.submit(TASK, params))
        except RefusedError as error:
            return error
    raise AssertionError("the server took a thousand jobs")
