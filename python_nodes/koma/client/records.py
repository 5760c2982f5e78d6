"""Jobs, outputs, pipelines and artifacts as the server describes them (docs/api.md).

Fields that a newer server adds are ignored; a missing or ill-typed one is a :class:`ProtocolError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from koma.client.errors import ProtocolError

JobState = Literal["accepted", "queued", "running", "retrying", "completed", "failed", "cancelled", "expired"]
PreviewMode = Literal["base64", "binary", "none"]
NodeOrder = Literal["drain", "resume", "restart", "load", "unload"]


class Record(BaseModel):
    """An immutable value of the public interface."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


R = TypeVar("R", bound=Record)


def parse(kind: type[R], data: object) -> R:
    """Return ``data`` as a record of that kind; raise :class:`ProtocolError` naming what does not fit."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ProtocolError(f"{kind.__name__} from the server: {where}: {first['msg']}") from error


class ErrorValue(Record):
    """Why a job or stage ended without a result."""

    code: str
    message: str
    field: str | None = None
    value: Any = None
    bound: Any = None


class Output(Record):
    """One result: ``text`` is set for short text, else ``artifact`` names ``size`` stored bytes."""

    name: str
    media_type: str
    size: int | None = Field(default=None, alias="bytes")
    artifact: str | None = None
    url: str | None = None
    text: str | None = None
    meta: dict[str, Any] | None = None


class Artifact(Record):
    """Stored bytes; ``id`` is their SHA-256 digest in hexadecimal."""

    id: str
    size: int = Field(alias="bytes")
    media_type: str


class Verdict(Record):
    """Which marks a file bears: ``made_here``, ``declares_ai``, ``tampered`` or ``unknown``, and why."""

    verdict: str
    meaning: str
    c2pa: dict[str, Any]
    watermark: dict[str, Any]
    log: dict[str, Any]


class Job(Record):
    """An accepted request; times are milliseconds since 1970."""

    id: str
    task: str
    model: str | None = None
    state: JobState
    attempt: int = 0
    seq: int = 0
    created_at: int | None = None
    finished_at: int | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    inputs: dict[str, Any] = Field(default_factory=dict)
    position: int | None = None
    outputs: tuple[Output, ...] | None = None
    error: ErrorValue | None = None
    seed: int | None = None
    timings: dict[str, float] | None = None


class StageRecord(Record):
    """A stage of a pipeline; ``job`` is set once the stage was submitted."""

    name: str
    task: str
    state: str
    job: str | None = None
    error: ErrorValue | None = None


class Pipeline(Record):
    """A running or finished pipeline; ``outputs`` are named ``<stage>.<output>``."""

    id: str
    state: Literal["running", "completed", "failed", "cancelled"]
    seq: int = 0
    stages: tuple[StageRecord, ...] = ()
    outputs: Mapping[str, Output] | None = None
    error: ErrorValue | None = None


class Model(Record):
    """A family that the server serves; ``notice`` says what its user must know (e.g. untrained)."""

    family: str
    checkpoint: str | None = None
    device: str | None = None
    dtype: str | None = None
    nodes: int = 0
    slots: int = 0
    notice: str | None = None
    tasks: dict[str, Any] = Field(default_factory=dict)


class NodeError(ErrorValue):
    """What the process of a model node died of, ``at`` ms since 1970."""

    at: int


class ModelNode(Record):
    """A model node as operators see it; ``order`` is what it was told and has not done yet, or holds to.

    Those of other peers are called ``<name>@<peer>`` and tell their numbers there.
    """

    node: str
    family: str
    state: str
    order: str | None = None
    checkpoint: str | None = None
    device: str | None = None
    dtype: str | None = None
    running: int | None = None
    slots: int
    last_batch: int | None = None
    memory_bytes: int | None = None
    last_error: NodeError | None = None


class QueueKey(Record):
    """How many jobs of an API key wait; None is the key of those who show none."""

    key: str | None
    jobs: int


class Queue(Record):
    """The queue of a family."""

    family: str
    jobs: int
    oldest_wait_ms: int
    paused: bool
    keys: list[QueueKey]
