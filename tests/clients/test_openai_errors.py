"""What OpenAI's client for Python makes of refusals: its own exceptions, and how often it tries again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from openai import APIStatusError, AuthenticationError, OpenAI, RateLimitError
from tests.clients.conftest import QUEUE_LIMIT, Served

Counted = Callable[..., tuple[OpenAI, list[int]]]
DOG: dict[str, Any] = {"model": "amused", "prompt": "a dog", "extra_body": {"steps": 2}}


def test_a_wrong_key_is_refused_once(counted: Counted) -> None:
    client, statuses = counted(api_key="wrong")
    with pytest.raises(AuthenticationError) as refused:
        client.images.generate(**DOG)
    assert refused.value.code == "invalid_api_key"
    assert statuses == [401]


def test_a_used_up_quota_is_refused_once_because_another_try_would_fail_too(
    counted: Counted, served: Served
) -> None:
    client, statuses = counted(api_key=served.small)
    client.images.generate(**DOG)
    with pytest.raises(RateLimitError) as refused:
        client.images.generate(**DOG)
    assert refused.value.code == "insufficient_quota"
    assert statuses == [200, 429]


@pytest.fixture
def full_queue(served: Served) -> Iterator[None]:
    """The queue of LTX-Video is paused and full."""
    with httpx.Client(base_url=served.v1, headers={"authorization": f"Bearer {served.key}"}) as http:
        assert http.post("/admin/queues/ltx_video/pause").is_success
        body = {"task": "video.generate", "params": {"prompt": "a dog", "steps": 1}}
        # Those before and after the limit: some may have a slot already when the queue is paused.
        answers = [http.post("/jobs", json=body) for _ in range(QUEUE_LIMIT + 1)]
        assert answers[-1].status_code == 429
        yield
        for answer in answers:
            if answer.is_success:
                http.delete(f"/jobs/{answer.json()['id']}")
        assert http.post("/admin/queues/ltx_video/resume").is_success


def test_an_overload_is_tried_again_as_often_as_the_client_was_told(
    full_queue: None, counted: Counted
) -> None:
    client, statuses = counted(retries=1)
    began = time.monotonic()
    with pytest.raises(RateLimitError) as refused:
        client.videos.create(model="ltx_video", prompt="a dog")
    waited_ms = 1000 * (time.monotonic() - began)
    assert refused.value.code == "overloaded"
    assert statuses == [429, 429]
    # The client waited for as long as the first refusal said.
    assert waited_ms >= 0.5 * float(refused.value.response.headers["retry-after-ms"])


def test_a_job_that_its_model_refuses_is_not_run_again_and_names_the_job(counted: Counted) -> None:
    client, statuses = counted()
    with pytest.raises(APIStatusError) as refused:
        client.images.generate(model="amused", prompt="a dog", extra_body={"deadline_ms": 1, "steps": 64})
    assert refused.value.code == "expired"
    assert (refused.value.request_id or "").startswith("job_")
    assert statuses == [504]


def test_a_client_that_goes_away_ends_its_job(served: Served) -> None:
    with httpx.Client(base_url=served.v1, headers={"authorization": f"Bearer {served.key}"}) as http:
        body = {"prompt": "somebody who leaves", "n": 8, "steps": 64, "stream": True}
        with http.stream("POST", "/images/generations", json=body, timeout=60) as answer:
            id = answer.headers["x-request-id"]
        # Asked after, because whoever follows a job keeps it alive.
        job = http.get(f"/jobs/{id}").json()
        while job["state"] in ("accepted", "queued", "running"):
            job = http.get(f"/jobs/{id}").json()
    assert job["state"] == "cancelled"
