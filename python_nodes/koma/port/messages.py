"""The messages of ``docs/wire.md``: one frozen dataclass each, and one closed union per direction.

Every field is required. A field that the receiver does not know is ignored; a known one of the wrong type is
an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

Natural = Annotated[int, 0]
"""An integer of at least 0."""
Positive = Annotated[int, 1]
"""An integer of at least 1."""
Digest = Annotated[str, "[0-9a-f]{64}"]
"""SHA-256 in lower-case hexadecimal."""

Phase = Literal["prepare", "step", "finish"]
Scope = Literal["job", "batch", "node"]
Level = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True)
class InputRef:
    """A stored input of a job: where its bytes lie."""

    path: str
    sha256: Digest
    media_type: str
    bytes: Natural


@dataclass(frozen=True)
class InputInfo:
    """What ``ready`` says of one input of a task."""

    media_types: tuple[str, ...]
    required: bool
    description: str


@dataclass(frozen=True)
class TaskInfo:
    """What ``ready`` says of one task: parameters as JSON Schema, inputs, and output name -> media type."""

    params: Mapping[str, Any]
    inputs: Mapping[str, InputInfo]
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class OutputRef:
    """One result: a file (``path``) or a short text (``text``); the other one is None. ``bytes`` counts
    UTF-8."""

    name: str
    media_type: str
    path: str | None
    sha256: Digest
    bytes: Natural
    text: str | None
    meta: Mapping[str, Any]


@dataclass(frozen=True)
class Hello:
    """First message of the gateway."""

    protocol: Natural
    node: str


@dataclass(frozen=True)
class Load:
    """Load a checkpoint."""

    id: str
    family: str
    checkpoint: str
    device: str
    dtype: str
    slots: Positive
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Unload:
    """Drop the checkpoint."""

    id: str


@dataclass(frozen=True)
class Submit:
    """Run one job."""

    id: str
    attempt: Positive
    task: str
    params: Mapping[str, Any]
    inputs: Mapping[str, InputRef]
    output_dir: str
    previews: bool


@dataclass(frozen=True)
class Cancel:
    """Stop the job."""

    id: str


@dataclass(frozen=True)
class Count:
    """Asks how much of the prompts in ``params`` the model would read; answered at once by ``counted``."""

    id: str
    task: str
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Drain:
    """Take no more jobs, finish those running, then exit 0."""


@dataclass(frozen=True)
class Ping:
    """Asks for a pong at once."""

    seq: Natural


@dataclass(frozen=True)
class Ready:
    """The node can take ``load`` (``family`` None) or jobs."""

    id: str | None
    protocol: Natural
    pid: Positive
    families: tuple[str, ...]
    family: str | None
    checkpoint: str | None
    checkpoint_digest: str | None
    tasks: Mapping[str, TaskInfo]
    device: str
    dtype: str
    slots: Natural
    memory_bytes: Natural
    notice: str | None


@dataclass(frozen=True)
class Accepted:
    """The engine took the job. ``total`` and ``estimate_ms`` are 0 while unknown."""

    id: str
    attempt: Positive
    total: Natural
    estimate_ms: Natural


@dataclass(frozen=True)
class Progress:
    """Where the job is. ``eta_ms`` is 0 while nothing has been measured.

    The first one of the steps tells in ``prompts`` how much of each prompt the model reads.
    """

    id: str
    phase: Phase
    step: Natural
    total: Natural
    eta_ms: Natural
    prompts: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Counted:
    """Answer to ``count``: name of a prompt -> ``{tokens, read, unknown, limit, notice?}``."""

    id: str
    prompts: Mapping[str, Any]


@dataclass(frozen=True)
class Preview:
    """A picture of the state of the job; may be dropped."""

    id: str
    step: Natural
    media_type: str
    data: bytes
    width: Natural
    height: Natural


@dataclass(frozen=True)
class Token:
    """Text that became certain since the last token."""

    id: str
    index: Natural
    text: str


@dataclass(frozen=True)
class Done:
    """The job is finished. ``timings`` are milliseconds and counts."""

    id: str
    outputs: tuple[OutputRef, ...]
    seed: Natural
    timings: Mapping[str, float]


@dataclass(frozen=True)
class Failed:
    """A job, a batch or the node failed."""

    id: str
    scope: Scope
    code: str
    message: str
    field: str | None = None
    value: Any = None
    bound: Any = None


@dataclass(frozen=True)
class Log:
    """Becomes a log line of the gateway."""

    level: Level
    message: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Stats:
    """Counters since the start of the node."""

    running: Natural
    waiting: Natural
    slots: Natural
    forwards: Natural
    rows: Natural
    last_batch: Natural
    step_ms: float
    memory_bytes: Natural
    device_memory_bytes: Natural


@dataclass(frozen=True)
class Pong:
    """Answer to a ping; ``busy_ms``: how long the most silent operation gave no sign of life, 0 when idle."""

    seq: Natural
    busy_ms: Natural


GatewayMessage = Hello | Load | Unload | Submit | Cancel | Count | Drain | Ping
"""Gateway → node."""
NodeMessage = Ready | Accepted | Progress | Counted | Preview | Token | Done | Failed | Log | Stats | Pong
"""Node → gateway."""

GATEWAY_TYPES: Mapping[str, type] = {cls.__name__.lower(): cls for cls in get_args(GatewayMessage)}
NODE_TYPES: Mapping[str, type] = {cls.__name__.lower(): cls for cls in get_args(NodeMessage)}
