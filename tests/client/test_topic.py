"""The mailbox of a topic: order, previews and ends."""

from __future__ import annotations

import asyncio
import base64

import pytest

from koma.client.errors import ConnectionLostError, ProtocolError
from koma.client.events import Event, Preview, parse_pipeline_event
from koma.client.topic import Topic


def preview(step: int, stage: str | None = None) -> dict[str, object]:
    data = base64.b64encode(bytes([step])).decode()
    header = {"id": "7", "step": step, "total": 9, "media_type": "image/png", "width": 1, "height": 1}
    return {**header, "data": data, "stage": stage}


def cancelled(seq: int) -> dict[str, object]:
    return {"id": "7", "seq": seq, "at": 0, "code": "cancelled", "message": "asked for"}


async def drain(topic: Topic) -> list[Event | Preview]:
    """Return what the topic still has."""
    topic.fail(ConnectionLostError("end"))
    items = []
    try:
        while True:
            items.append(await topic.get())
    except ConnectionLostError:
        return items


async def test_of_previews_that_nobody_took_only_the_latest_of_each_stage_is_kept() -> None:
    topic = Topic("pipeline:7", parse_pipeline_event)
    for step in range(5):
        topic.put("preview", preview(step, "image"))
        topic.put("preview", preview(step, "video"))
    items = await drain(topic)
    assert [(item.stage, item.step) for item in items if isinstance(item, Preview)] == [
        ("image", 4),
        ("video", 4),
    ]


async def test_numbered_events_are_all_kept_and_outlive_the_failure() -> None:
    topic = Topic("pipeline:7", parse_pipeline_event)
    for seq in range(1, 50):
        topic.put("cancelled", cancelled(seq))
    assert [item.seq for item in await drain(topic) if isinstance(item, Event)] == list(range(1, 50))


async def test_a_waiting_reader_gets_the_event_that_comes() -> None:
    topic = Topic("pipeline:7", parse_pipeline_event)
    reader = asyncio.ensure_future(topic.get())
    await asyncio.sleep(0)
    topic.put("cancelled", cancelled(1))
    item = await reader
    assert isinstance(item, Event)
    assert item.seq == 1


async def test_a_message_that_cannot_be_parsed_ends_the_topic_with_its_reason() -> None:
    topic = Topic("pipeline:7", parse_pipeline_event)
    topic.put("completed", {"seq": 1})
    with pytest.raises(ProtocolError, match="PipelineCompleted"):
        await topic.get()


async def test_who_waits_for_a_join_learns_why_it_failed() -> None:
    topic = Topic("job:7", None)
    waiting = asyncio.ensure_future(topic.wait_joined())
    await asyncio.sleep(0)
    topic.fail(ConnectionLostError("away"))
    with pytest.raises(ConnectionLostError):
        await waiting
