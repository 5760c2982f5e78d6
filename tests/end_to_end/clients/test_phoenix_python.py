"""PyPI's phoenix-channels-python-client, unchanged: it subscribes to the events of a job."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from phoenix_channels_python_client import PHXChannelsClient  # type: ignore[import-untyped]
from phoenix_channels_python_client.exceptions import (  # type: ignore[import-untyped]
    PHXConnectionError,
    PHXTopicError,
)

from koma.cli.server_process import ServerProcess
from koma.client import Client

DEADLINE = 20.0  # seconds
KEY_HEADERS: list[dict[str, str] | None] = [None, {"x-api-key": "k"}, {"x-auth-token": "k"}]


class Heard:
    """Collects what a topic tells until its last event."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.ended = asyncio.Event()

    async def __call__(self, message: Any) -> None:
        name = str(message.event)
        self.events.append((name, message.payload))
        if name in ("completed", "failed", "cancelled", "expired"):
            self.ended.set()

    def numbers(self) -> list[int]:
        return [payload["seq"] for _name, payload in self.events if "seq" in payload]


def phoenix(server: ServerProcess, **options: Any) -> PHXChannelsClient:
    url = server.url.replace("http://", "ws://", 1) + "/socket/websocket"
    return PHXChannelsClient(url, "some-key", **options)


@pytest.mark.parametrize("headers", KEY_HEADERS, ids=["query", "x-api-key", "x-auth-token"])
async def test_every_event_of_a_job_arrives_once_and_in_order(
    server: ServerProcess, client: Client, headers: dict[str, str] | None
) -> None:
    job = await client.submit(
        "toy.run", {"steps": 10, "step_ms": 10, "tokens": True, "preview_bytes": 100}, on_disconnect="keep"
    )
    heard = Heard()
    async with phoenix(server, additional_headers=headers) as channels:
        await channels.subscribe_to_topic(f"job:{job.id}", heard)
        await asyncio.wait_for(heard.ended.wait(), DEADLINE)
        await channels.unsubscribe_from_topic(f"job:{job.id}")
    assert heard.events[-1][0] == "completed"
    assert heard.numbers() == list(range(1, len(heard.numbers()) + 1))
    assert {"queued", "started", "progress", "token", "preview"} <= {name for name, _ in heard.events}


async def test_a_job_that_has_ended_is_told_from_its_beginning(server: ServerProcess, client: Client) -> None:
    job = await client.submit("toy.run", {"steps": 3})
    await job.result()
    heard = Heard()
    async with phoenix(server) as channels:
        await channels.subscribe_to_topic(f"job:{job.id}", heard)
        await asyncio.wait_for(heard.ended.wait(), DEADLINE)
    assert heard.events[0][0] == "queued"
    assert heard.numbers()[0] == 1


async def test_an_unknown_job_is_refused_with_a_reason(server: ServerProcess) -> None:
    async with phoenix(server) as channels:
        with pytest.raises(PHXTopicError, match="no job"):
            await channels.subscribe_to_topic("job:none", Heard())


async def test_heartbeats_are_acknowledged(server: ServerProcess) -> None:
    acknowledged = asyncio.Event()

    def note(*_details: Any) -> None:
        acknowledged.set()

    async with phoenix(server, heartbeat_interval_s=0.05, on_heartbeat_ack=note):
        await asyncio.wait_for(acknowledged.wait(), DEADLINE)


async def test_an_older_protocol_is_refused_for_good(server: ServerProcess) -> None:
    with pytest.raises(PHXConnectionError, match="403"):
        async with phoenix(server, protocol_version="1.0.0"):
            pass
