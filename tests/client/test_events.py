"""Typed events of jobs and pipelines."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest

from koma.client import events
from koma.client.errors import ProtocolError
from koma.client.events import name_of, parse_job_event, parse_pipeline_event, terminal

HEADER = {"id": "7", "step": 3, "total": 12, "media_type": "image/png", "width": 8, "height": 8}
OUTPUT = {"name": "image", "media_type": "image/png", "bytes": 9, "artifact": "ab", "url": "/v1/artifacts/ab"}
# One payload of every event of docs/api.md.
PAYLOADS: dict[str, dict[str, Any]] = {
    "queued": {"position": 1, "wait_ms": None},
    "started": {"attempt": 1, "node": "amused-1", "total": 12, "estimate_ms": 900},
    "progress": {"phase": "step", "step": 3, "total": 12, "eta_ms": 700, "attempt": 1},
    "token": {"index": 0, "text": "a cat", "attempt": 1},
    "retrying": {"attempt": 1, "code": "node_crashed", "message": "gone"},
    "completed": {"outputs": [OUTPUT], "seed": 5, "timings": {"run_ms": 900.0}, "attempt": 1},
    "failed": {"code": "invalid_media", "message": "cut off", "field": "inputs.video", "bound": 1},
    "cancelled": {"code": "cancelled", "message": "asked for"},
    "expired": {"code": "expired", "message": "too late"},
}
NUMBERS = {"id": "7", "seq": 4, "at": 1700000000000}


@pytest.mark.parametrize("name", PAYLOADS)
def test_every_documented_event_becomes_a_typed_one_with_all_its_fields(name: str) -> None:
    event = parse_job_event(name, {**NUMBERS, **PAYLOADS[name]})
    assert isinstance(event, events.Event)
    assert name_of(event) == name
    told = event.model_dump(by_alias=True)
    for field, value in {**NUMBERS, **PAYLOADS[name]}.items():
        if field != "outputs":
            assert told[field] == value
    assert terminal(event) == (name in {"completed", "failed", "cancelled", "expired"})


def test_every_event_that_is_parsed_is_in_the_list_above() -> None:
    assert set(PAYLOADS) == set(events.JOB_EVENTS)


def test_an_event_of_a_newer_server_is_passed_on() -> None:
    event = parse_job_event("resized", {**NUMBERS, "slots": 2})
    assert isinstance(event, events.Unknown)
    assert (event.seq, name_of(event), event.payload["slots"]) == (4, "resized", 2)


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("progress", {"id": "7"}),
        ("token", {**NUMBERS, "index": "x", "text": 1}),
        ("completed", NUMBERS),
        ("queued", {}),
    ],
)
def test_an_event_that_misses_fields_is_named(name: str, payload: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match="from the server"):
        parse_job_event(name, payload)


def test_an_event_in_a_binary_frame_is_named() -> None:
    with pytest.raises(ProtocolError, match="binary"):
        parse_job_event("progress", b"123")


def test_a_preview_is_the_same_in_base64_and_in_binary() -> None:
    header = json.dumps(HEADER).encode()
    binary = parse_job_event("preview", struct.pack(">I", len(header)) + header + b"PNG")
    text = parse_job_event("preview", {**HEADER, "data": base64.b64encode(b"PNG").decode()})
    assert binary == text
    assert isinstance(binary, events.Preview)
    assert binary.data == b"PNG"


def test_a_preview_with_broken_base64_is_named() -> None:
    with pytest.raises(ProtocolError, match="base64"):
        parse_job_event("preview", {**HEADER, "data": "not base64!"})


def test_a_stage_event_carries_the_typed_event_of_its_job() -> None:
    inner = {"id": "9", "seq": 2, "at": 5, **PAYLOADS["progress"]}
    event = parse_pipeline_event(
        "stage", {**NUMBERS, "stage": "image", "event": "progress", "job": "9", "payload": inner}
    )
    assert isinstance(event, events.StageEvent)
    assert (event.stage, event.job, event.seq) == ("image", "9", 4)
    assert isinstance(event.event, events.Progress)
    assert (event.event.seq, event.event.step) == (2, 3)
    assert not terminal(event)


def test_the_end_of_a_pipeline_names_its_outputs() -> None:
    event = parse_pipeline_event("completed", {**NUMBERS, "outputs": {"image.image": OUTPUT}})
    assert isinstance(event, events.PipelineCompleted)
    assert event.outputs["image.image"].size == 9
    assert name_of(event) == "completed"
    assert terminal(event)


def test_a_failed_pipeline_names_its_stage() -> None:
    event = parse_pipeline_event(
        "failed", {**NUMBERS, "stage": "video", "code": "model_failed", "message": "no"}
    )
    assert isinstance(event, events.Failed)
    assert event.stage == "video"
    assert name_of(event) == "failed"


def test_a_stage_event_without_payload_is_named() -> None:
    with pytest.raises(ProtocolError, match="payload"):
        parse_pipeline_event("stage", {**NUMBERS, "stage": "image", "event": "progress"})
