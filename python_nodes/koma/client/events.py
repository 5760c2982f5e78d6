"""What happens to a job or a pipeline, as typed events. Pure: no socket, no clock.

Every event but :class:`Preview` has a sequence number ``seq`` (1, 2, … without gaps) and a time ``at`` in
milliseconds since 1970. Steps and token indices begin again at 0 after a :class:`Started` with a greater
attempt.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from koma.client.errors import ProtocolError
from koma.client.frames import split_preview
from koma.client.records import Output, Record, parse


class Preview(Record):
    """A decoded intermediate image: droppable, the latest wins; ``stage`` is set in a pipeline."""

    id: str
    step: int
    total: int
    media_type: str
    width: int
    height: int
    data: bytes
    stage: str | None = None


class Event(Record):
    """Base of the numbered events."""

    id: str
    seq: int
    at: int = 0


class Queued(Event):
    """The job waits; ``wait_ms`` is an estimate."""

    position: int | None = None
    wait_ms: int | None = None


class Started(Event):
    """A model node took the job; what was shown of an earlier attempt is void."""

    attempt: int
    node: str | None = None
    total: int = 0
    estimate_ms: int | None = None


class Progress(Event):
    """``step`` of ``total`` is done; ``phase`` is "prepare", "step" or "finish".

    The first one of the steps tells in ``prompts`` how much of each prompt the model reads: ``tokens``,
    ``read``, ``unknown``, ``limit``, and a ``notice`` in words where something is left out or unknown.
    """

    phase: str
    step: int
    total: int
    eta_ms: int | None = None
    attempt: int = 1
    prompts: dict[str, dict[str, Any]] | None = None


class Token(Event):
    """Text that became certain since the last one."""

    index: int
    text: str
    attempt: int = 1


class Retrying(Event):
    """The attempt ended through no fault of the job, which waits again at the front."""

    attempt: int
    code: str
    message: str


class Completed(Event):
    """The job is done."""

    outputs: tuple[Output, ...]
    seed: int | None = None
    timings: dict[str, float] | None = None
    attempt: int = 1


class Failed(Event):
    """The job failed; ``stage`` is set where a pipeline did."""

    code: str
    message: str
    field: str | None = None
    value: Any = None
    bound: Any = None
    stage: str | None = None


class Cancelled(Event):
    """The job or pipeline was cancelled."""

    code: str = "cancelled"
    message: str = "cancelled"


class Expired(Event):
    """The deadline of the job passed."""

    code: str = "expired"
    message: str = "the deadline passed"


class PipelineCompleted(Event):
    """Every stage is done; outputs are named ``<stage>.<output>``."""

    outputs: dict[str, Output]


class Unknown(Event):
    """An event that this version of the client does not know."""

    event: str
    payload: dict[str, Any]


class StageEvent(Event):
    """Something happened to the job of a stage."""

    stage: str
    job: str | None
    event: Event


JOB_EVENTS: dict[str, type[Event]] = {
    "queued": Queued,
    "started": Started,
    "progress": Progress,
    "token": Token,
    "retrying": Retrying,
    "completed": Completed,
    "failed": Failed,
    "cancelled": Cancelled,
    "expired": Expired,
}
PIPELINE_EVENTS: dict[str, type[Event]] = {
    "completed": PipelineCompleted,
    "failed": Failed,
    "cancelled": Cancelled,
}
TERMINAL: tuple[type[Event], ...] = (Completed, PipelineCompleted, Failed, Cancelled, Expired)


def terminal(event: Event | Preview) -> bool:
    """Return whether nothing follows the event."""
    return isinstance(event, TERMINAL)


def name_of(event: Event) -> str:
    """Return the event's name in the public interface."""
    if isinstance(event, Unknown):
        return event.event
    known = {kind: name for name, kind in (*PIPELINE_EVENTS.items(), *JOB_EVENTS.items())}
    return "stage" if isinstance(event, StageEvent) else known[type(event)]


def parse_job_event(name: str, payload: Mapping[str, Any] | bytes) -> Event | Preview:
    """Return the typed event of topic ``job:<id>``; raise :class:`ProtocolError` where it does not fit."""
    if name == "preview":
        return parse_preview(payload)
    return _parse(JOB_EVENTS, name, _object(name, payload))


def parse_pipeline_event(name: str, payload: Mapping[str, Any] | bytes) -> Event | Preview:
    """Return the typed event of topic ``pipeline:<id>``."""
    if name == "preview":
        return parse_preview(payload)
    data = _object(name, payload)
    return _parse_stage(data) if name == "stage" else _parse(PIPELINE_EVENTS, name, data)


def parse_preview(payload: Mapping[str, Any] | bytes) -> Preview:
    """Return the preview of a binary push, or of a JSON one with ``data`` in base64."""
    if isinstance(payload, bytes):
        header, image = split_preview(payload)
        return parse(Preview, {**header, "data": image})
    try:
        image = base64.b64decode(payload.get("data", ""), validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise ProtocolError("the data of a preview is not base64") from error
    return parse(Preview, {**payload, "data": image})


def _parse(kinds: Mapping[str, type[Event]], name: str, payload: Mapping[str, Any]) -> Event:
    kind = kinds.get(name)
    if kind is None:
        return parse(Unknown, {**payload, "event": name, "payload": dict(payload)})
    return parse(kind, payload)


def _parse_stage(payload: Mapping[str, Any]) -> StageEvent:
    inner = payload.get("payload")
    if not isinstance(inner, Mapping):
        raise ProtocolError("a stage event has no payload")
    # The stage's own event is numbered within its job; where it is not, the pipeline's numbers stand in.
    numbers = {
        "id": payload.get("job") or payload.get("id"),
        "seq": payload.get("seq"),
        "at": payload.get("at", 0),
    }
    event = _parse(JOB_EVENTS, str(payload.get("event")), {**numbers, **inner})
    return parse(StageEvent, {"job": None, **payload, "event": event})


def _object(name: str, payload: Mapping[str, Any] | bytes) -> Mapping[str, Any]:
    if isinstance(payload, bytes):
        raise ProtocolError(f"event {name!r} came as a binary frame")
    return payload
