"""The ``ready`` messages: what this node is and what it can do."""

from __future__ import annotations

import os

from koma.models import registry
from koma.port.limits import PROTOCOL_VERSION
from koma.port.messages import InputInfo, Load, Ready, TaskInfo
from koma.runtime.memory import resident_bytes
from koma.runtime.parameters import schema
from koma.runtime.runner import Runner, TaskSpec


def empty(reply_to: str | None) -> Ready:
    """Ready for ``load``; ``reply_to`` is the id of an ``unload``, None after ``hello``."""
    return Ready(
        reply_to,
        PROTOCOL_VERSION,
        os.getpid(),
        registry.names(),
        family=None,
        checkpoint=None,
        checkpoint_digest=None,
        tasks={},
        device="",
        dtype="",
        slots=0,
        memory_bytes=resident_bytes(),
        notice=None,
    )


def loaded(load: Load, runner: Runner) -> Ready:
    """Ready for jobs of the family that ``load`` asked for."""
    told = runner.loaded
    return Ready(
        load.id,
        PROTOCOL_VERSION,
        os.getpid(),
        registry.names(),
        told.family,
        told.checkpoint,
        told.checkpoint_digest,
        {name: _task(spec) for name, spec in runner.tasks.items()},
        told.device,
        told.dtype,
        load.slots,
        resident_bytes(),
        told.notice,
    )


def _task(spec: TaskSpec) -> TaskInfo:
    inputs = {
        name: InputInfo(tuple(item.media_types), item.required, item.description)
        for name, item in spec.inputs.items()
    }
    return TaskInfo(schema(spec.params), inputs, dict(spec.outputs))
