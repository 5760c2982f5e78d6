"""Pipelines of toy jobs through the Python client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from koma.client import (
    CancelledError,
    Client,
    Completed,
    Event,
    FailedError,
    PipelineHandle,
    Progress,
    RefusedError,
    StageEvent,
    Started,
)


def stage(
    name: str, params: dict[str, Any] | None = None, inputs: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {"name": name, "task": "toy.run", "params": params or {}, "inputs": inputs or {}}


async def stage_events(pipeline: PipelineHandle) -> list[StageEvent]:
    events = [event async for event in pipeline.events() if isinstance(event, Event)]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    return [event for event in events if isinstance(event, StageEvent)]


async def test_a_stage_gets_what_an_earlier_one_made(client: Client, data: Path) -> None:
    artifact = await client.upload(data)
    stages = [
        stage("first", {"steps": 2, "output_bytes": 100_000, "seed": 1}, {"file": {"from": "input.file"}}),
        stage("second", {"steps": 2, "seed": 2}, {"file": {"from": "first.result"}}),
    ]
    pipeline = await client.submit_pipeline(stages, {"file": artifact.id})
    told = await stage_events(pipeline)
    outputs = (await pipeline.result()).outputs
    assert set(outputs) == {"first.result", "second.result"}
    ends = [event.stage for event in told if isinstance(event.event, Completed)]
    assert ends == ["first", "second"]
    second = outputs["second.result"]
    assert second.text is not None
    assert str(outputs["first.result"].artifact) in second.text
    record = await client.pipeline(pipeline.id)
    assert record.state == "completed"


async def test_stages_without_a_path_between_them_run_at_the_same_time(client: Client) -> None:
    stages = [stage(name, {"steps": 20, "step_ms": 50}) for name in ("left", "right")]
    pipeline = await client.submit_pipeline(stages)
    told = await stage_events(pipeline)
    order = [event.stage for event in told if isinstance(event.event, Progress)]
    started = {event.stage for event in told if isinstance(event.event, Started)}
    assert started == {"left", "right"}
    assert order != sorted(order), "one ran after the other"


async def test_a_failed_stage_fails_what_depends_on_it_and_says_why(client: Client) -> None:
    stages = [
        stage("first", {"fail": "step", "output_bytes": 100_000}),
        stage("second", {}, {"file": {"from": "first.result"}}),
    ]
    pipeline = await client.submit_pipeline(stages)
    with pytest.raises(FailedError) as error:
        await pipeline.result()
    assert error.value.stage == "first"
    record = await client.pipeline(pipeline.id)
    states = {item.name: item for item in record.stages}
    assert states["second"].error is not None
    assert states["second"].error.code == "stage_failed"


async def test_cancel_of_a_pipeline_cancels_its_running_jobs(client: Client) -> None:
    pipeline = await client.submit_pipeline([stage("only", {"steps": 10_000, "step_ms": 20})])
    job = ""
    async for event in pipeline.events():
        if isinstance(event, StageEvent) and isinstance(event.event, Progress):
            job = event.job or ""
            break
    await pipeline.cancel()
    with pytest.raises(CancelledError):
        await pipeline.result()
    assert (await client.job(job)).state == "cancelled"


@pytest.mark.parametrize(
    "stages",
    [
        [],
        [stage("a"), stage("a")],
        [stage("a", {}, {"file": {"from": "b.result"}})],
        [stage("a", {}, {"file": {"from": "b.result"}}), stage("b", {}, {"file": {"from": "a.result"}})],
        [{**stage("a"), "task": "toy.walk"}],
        [{"name": "a"}],
    ],
    ids=["empty", "same name", "unknown stage", "circle", "unknown task", "no task"],
)
async def test_a_pipeline_that_cannot_run_is_refused_before_anything_starts(
    client: Client, stages: list[dict[str, Any]]
) -> None:
    before = len(await client.jobs())
    with pytest.raises(RefusedError) as refusal:
        await client.submit_pipeline(stages)
    assert refusal.value.field is not None
    assert len(await client.jobs()) == before


async def test_an_unknown_pipeline_is_refused(client: Client) -> None:
    with pytest.raises(RefusedError) as refusal:
        await client.submit_pipeline("saga")
    assert refusal.value.field == "pipeline"
