"""Jobs through the Python client, the public interface and real model nodes."""

from __future__ import annotations

import asyncio

import pytest

from koma.cli.run import started
from koma.cli.server_process import ServerProcess
from koma.client import (
    CancelledError,
    Client,
    Completed,
    Event,
    ExpiredError,
    FailedError,
    JobHandle,
    Preview,
    Progress,
    RefusedError,
    Retrying,
    Started,
    SyncClient,
    Token,
)

TASK = "toy.run"


async def events_of(job: JobHandle) -> list[Event | Preview]:
    return [event async for event in job.events()]


def numbered(events: list[Event | Preview]) -> list[Event]:
    return [event for event in events if isinstance(event, Event)]


async def test_a_job_tells_every_step_without_a_gap_and_ends_with_its_result(client: Client) -> None:
    job = await client.submit(TASK, {"steps": 6, "tokens": True, "seed": 5})
    told = numbered(await events_of(job))
    assert [event.seq for event in told] == list(range(1, len(told) + 1))
    steps = [event.step for event in told if isinstance(event, Progress)]
    assert sorted(set(steps)) == list(range(7))
    assert steps == sorted(steps)
    assert [event.index for event in told if isinstance(event, Token)] == list(range(6))
    assert isinstance(told[-1], Completed)
    assert told[-1].seed == 5
    assert (await job.result()).outputs[0].name == "result"


async def test_the_same_seed_gives_the_same_result_and_the_record_tells_it(client: Client) -> None:
    first, second = [await client.submit(TASK, {"steps": 3, "seed": 9}, cache=False) for _ in range(2)]
    results = [(await job.result()).outputs[0] for job in (first, second)]
    assert results[0].text == results[1].text
    record = await client.job(first.id)
    assert (record.state, record.seed) == ("completed", 9)
    assert record.outputs is not None
    assert record.outputs[0].text == results[0].text
    assert first.id in [job.id for job in await client.jobs()]


async def test_a_seed_that_was_not_given_is_drawn_and_told(client: Client) -> None:
    results = [await (await client.submit(TASK, {"steps": 1})).result() for _ in range(2)]
    seeds = [result.seed for result in results]
    assert None not in seeds
    assert seeds[0] != seeds[1]


@pytest.mark.parametrize("form", ["binary", "base64"])
async def test_previews_arrive_in_the_form_that_the_client_asked_for(
    server: ServerProcess, form: str
) -> None:
    async with Client(server.url, previews=form) as client:  # type: ignore[arg-type]
        job = await client.submit(TASK, {"steps": 8, "step_ms": 20, "preview_bytes": 1000})
        previews = [event for event in await events_of(job) if isinstance(event, Preview)]
    assert previews
    assert previews[-1].total == 8
    assert all(len(preview.data) >= 1000 for preview in previews)


async def test_a_client_that_wants_no_previews_gets_none(server: ServerProcess) -> None:
    async with Client(server.url, previews="none") as client:
        job = await client.submit(TASK, {"steps": 8, "step_ms": 10, "preview_bytes": 1000})
        assert not [event for event in await events_of(job) if isinstance(event, Preview)]


async def test_a_hundred_jobs_over_one_socket_are_each_answered_once(client: Client) -> None:
    jobs = await asyncio.gather(*(client.submit(TASK, {"steps": 2, "seed": seed}) for seed in range(100)))
    results = await asyncio.gather(*(job.result() for job in jobs))
    assert [result.seed for result in results] == list(range(100))
    assert len({job.id for job in jobs}) == 100


async def test_cancel_ends_a_running_job_and_may_be_said_twice(client: Client) -> None:
    job = await client.submit(TASK, {"steps": 10_000, "step_ms": 20})
    async for event in job.events():
        if isinstance(event, Progress):
            break
    await asyncio.gather(job.cancel(), job.cancel())
    async with asyncio.timeout(5):
        with pytest.raises(CancelledError):
            await job.result()
    await job.cancel()
    assert (await client.job(job.id)).state == "cancelled"


async def test_a_job_accepted_while_its_caller_gives_up_is_cancelled(client: Client) -> None:
    await client.cancel((await client.submit(TASK, {"steps": 1})).id)
    seed = 424_242
    work = asyncio.ensure_future(started(client.submit(TASK, {"steps": 10_000, "step_ms": 20, "seed": seed})))
    await asyncio.sleep(0)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    (job,) = [job for job in await client.jobs() if job.seed == seed]
    assert job.state == "cancelled"


async def test_cancel_of_a_finished_job_changes_nothing(client: Client) -> None:
    job = await client.submit(TASK, {"steps": 1})
    await job.result()
    await client.cancel(job.id)
    assert (await client.job(job.id)).state == "completed"


async def test_cancel_of_a_job_that_never_was_is_refused(client: Client) -> None:
    with pytest.raises(RefusedError) as refusal:
        await client.cancel("0" * 32)
    assert refusal.value.code == "not_found"


async def test_a_job_past_its_deadline_expires(client: Client) -> None:
    job = await client.submit(TASK, {"steps": 10_000, "step_ms": 20}, deadline=0.3)
    with pytest.raises(ExpiredError) as error:
        await job.result()
    assert error.value.code == "expired"


async def test_a_later_client_gets_every_event_of_a_finished_job(
    client: Client, server: ServerProcess
) -> None:
    job = await client.submit(TASK, {"steps": 4, "seed": 3})
    live = numbered(await events_of(job))
    async with Client(server.url, previews="none") as other:
        assert await events_of(await other.attach(job.id)) == live
    async with Client(server.url, previews="none") as other:
        assert await events_of(await other.attach(job.id, after=3)) == live[3:]


async def test_a_job_that_was_never_there_cannot_be_watched(client: Client) -> None:
    with pytest.raises(RefusedError) as refusal:
        await client.attach("0" * 32)
    assert refusal.value.code == "not_found"


async def test_a_job_whose_model_node_is_killed_runs_again_and_is_answered_once(client: Client) -> None:
    job = await client.submit(
        TASK, {"steps": 4, "fail": "crash", "fail_at": 2, "fail_attempts": 1, "seed": 2}
    )
    told = numbered(await events_of(job))
    assert [event.attempt for event in told if isinstance(event, Started)] == [1, 2]
    assert [event.code for event in told if isinstance(event, Retrying)] == ["node_crashed"]
    assert len([event for event in told if isinstance(event, Completed)]) == 1
    same = await (await client.submit(TASK, {"steps": 4, "seed": 2}, cache=False)).result()
    assert (await job.result()).outputs[0].text == same.outputs[0].text


@pytest.mark.parametrize("fault", ["prepare", "step", "preview", "finish"])
async def test_a_model_that_raises_ends_its_job_with_a_code_and_the_others_go_on(
    client: Client, fault: str
) -> None:
    other = await client.submit(TASK, {"steps": 20, "step_ms": 10})
    job = await client.submit(TASK, {"steps": 3, "fail": fault, "preview_bytes": 10})
    with pytest.raises(FailedError) as error:
        await job.result()
    assert error.value.code == "model_failed"
    await other.result()


async def test_a_library_that_prints_to_stdout_does_no_harm(client: Client) -> None:
    job = await client.submit(TASK, {"steps": 3, "fail": "print"})
    await job.result()


def test_the_blocking_client_does_the_same_without_an_event_loop(server: ServerProcess) -> None:
    with SyncClient(server.url) as client:
        job = client.submit(TASK, {"steps": 3, "seed": 4})
        told = [event for event in job.events() if isinstance(event, Event)]
        assert [event.seq for event in told] == list(range(1, len(told) + 1))
        assert job.result(timeout=5).seed == 4
        running = client.submit(TASK, {"steps": 10_000, "step_ms": 20})
        with pytest.raises(TimeoutError):
            running.result(timeout=0.1)
        running.cancel()
        with pytest.raises(CancelledError):
            running.result(timeout=5)
