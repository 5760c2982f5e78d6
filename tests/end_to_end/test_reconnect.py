"""A connection that breaks: nothing is lost, nothing is told twice."""

from __future__ import annotations

import asyncio

import pytest
from tests.end_to_end.proxy import proxy

from koma.cli.server_process import ServerProcess
from koma.client import (
    Client,
    Completed,
    ConnectionLostError,
    Event,
    Progress,
    ServerUnreachableError,
    Timing,
)

TASK = "toy.run"
QUICK = Timing(heartbeat=0.2, first_delay=0.02, longest_delay=0.1, reconnect_for=5)


async def test_a_connection_that_breaks_again_and_again_loses_and_doubles_no_event(
    server: ServerProcess,
) -> None:
    async with (
        proxy(server.url) as between,
        Client(f"http://127.0.0.1:{between.port}", timing=QUICK) as client,
    ):
        params = {"steps": 60, "step_ms": 20, "tokens": True, "preview_bytes": 50}
        job = await client.submit(TASK, params, on_disconnect="keep")
        told: list[Event] = []
        async for event in job.events():
            if isinstance(event, Event):
                told.append(event)
            if isinstance(event, Progress) and event.step in (5, 20, 21, 40):
                between.cut()
        assert [event.seq for event in told] == list(range(1, len(told) + 1))
        assert isinstance(told[-1], Completed)
        assert between.connections >= 4


async def test_a_job_that_ends_while_the_client_is_away_is_told_when_it_is_back(
    server: ServerProcess,
) -> None:
    async with (
        proxy(server.url) as between,
        Client(f"http://127.0.0.1:{between.port}", timing=QUICK) as client,
    ):
        job = await client.submit(TASK, {"steps": 10, "step_ms": 20}, on_disconnect="keep")
        between.refusing = True
        between.cut()
        async with Client(server.url) as other:
            await (await other.attach(job.id)).result()
        between.refusing = False
        seqs = [event.seq async for event in job.events() if isinstance(event, Event)]
        assert seqs == list(range(1, len(seqs) + 1))
        assert (await job.result()).outputs


async def test_a_silent_network_is_noticed_by_the_heartbeat(server: ServerProcess) -> None:
    async with (
        proxy(server.url) as between,
        Client(f"http://127.0.0.1:{between.port}", timing=QUICK) as client,
    ):
        job = await client.submit(TASK, {"steps": 30, "step_ms": 20}, on_disconnect="keep")
        between.connected.clear()
        between.swallow()
        async with Client(server.url) as other:
            await (await other.attach(job.id)).result()
        async with asyncio.timeout(5):
            await between.connected.wait()
            between.flow()
            assert (await job.result()).outputs


async def accepted(client: Client, known: set[str]) -> str:
    """Wait for a job that is not one of these, and return its id."""
    async with asyncio.timeout(20):
        # Each turn asks the server once.
        while not (new := {job.id for job in await client.jobs()} - known):
            continue
    (id,) = new
    return id


async def test_a_request_whose_reply_is_lost_is_sent_again_and_makes_no_second_job(
    server: ServerProcess,
) -> None:
    async with (
        proxy(server.url) as between,
        Client(f"http://127.0.0.1:{between.port}", timing=QUICK) as client,
        Client(server.url) as other,
    ):
        await (await client.submit(TASK, {"steps": 1})).result()
        known = {job.id for job in await other.jobs()}
        between.swallow_replies()
        request = asyncio.ensure_future(client.submit(TASK, {"steps": 1}, on_disconnect="keep"))
        id = await accepted(other, known)
        between.cut()
        between.flow()
        assert (await request).id == id
        assert {job.id for job in await other.jobs()} - known == {id}


async def test_a_request_whose_reply_is_lost_twice_is_told_and_not_guessed(server: ServerProcess) -> None:
    async with (
        proxy(server.url) as between,
        Client(f"http://127.0.0.1:{between.port}", timing=QUICK) as client,
        Client(server.url) as other,
    ):
        await (await client.submit(TASK, {"steps": 1})).result()
        known = {job.id for job in await other.jobs()}
        between.swallow_replies()
        request = asyncio.ensure_future(client.submit(TASK, {"steps": 1}))
        await accepted(other, known)
        between.refusing = True
        between.cut()
        with pytest.raises((ConnectionLostError, ServerUnreachableError)):
            await request


async def test_a_server_that_stays_away_is_told_to_whoever_waits(server: ServerProcess) -> None:
    hasty = Timing(heartbeat=0.2, first_delay=0.02, longest_delay=0.1, reconnect_for=0.5, connect=0.2)
    async with (
        proxy(server.url) as between,
        Client(f"http://127.0.0.1:{between.port}", timing=hasty) as client,
    ):
        job = await client.submit(TASK, {"steps": 10_000, "step_ms": 20})
        between.refusing = True
        between.cut()
        async with asyncio.timeout(5):
            with pytest.raises(ServerUnreachableError):
                await job.result()
        between.refusing = False
        await client.cancel(job.id)
        assert (await client.job(job.id)).state == "cancelled"
