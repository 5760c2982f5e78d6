"""From a ``submit`` message to a checked :class:`Request`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from koma.errors import KomaError
from koma.port.messages import InputRef, Submit
from koma.runtime.parameters import check, shown, unknown
from koma.runtime.runner import InputFile, InputSpec, Request, TaskSpec

_SEED_BITS = 52


def read(message: Submit, tasks: Mapping[str, TaskSpec]) -> Request:
    """Return the request of ``message``; raises KomaError naming the field, its value and the bound."""
    if message.task not in tasks:
        known = ", ".join(sorted(tasks))
        raise KomaError(
            "unknown_task",
            f"no task named {shown(message.task)}; known: {known}",
            field="task",
            value=shown(message.task),
        )
    task = tasks[message.task]
    params = _with_seed(check(task.params, message.params), message.id)
    inputs = _inputs(message.inputs, task.inputs)
    return Request(message.id, message.task, params, inputs, Path(message.output_dir), message.attempt)


def _with_seed(params: Any, job_id: str) -> Any:
    """Fill a seed that nobody drew from the job's id, so that a retry repeats the result."""
    if getattr(params, "seed", 0) is not None:
        return params
    digest = hashlib.sha256(job_id.encode("utf-8", "replace")).digest()
    return params.model_copy(update={"seed": int.from_bytes(digest[:8], "big") >> (64 - _SEED_BITS)})


def _inputs(given: Mapping[str, InputRef], known: Mapping[str, InputSpec]) -> dict[str, InputFile]:
    for name in given:
        if name not in known:
            raise unknown(name, "input", known)
    for name, spec in known.items():
        if spec.required and name not in given:
            raise KomaError("missing_field", f"the input {name} is required", field=f"inputs.{name}")
    return {name: _input(name, ref, known[name]) for name, ref in given.items()}


def _input(name: str, ref: InputRef, spec: InputSpec) -> InputFile:
    if ref.media_type not in spec.media_types:
        allowed = list(spec.media_types)
        raise KomaError(
            "unsupported_media",
            f"the input {name} takes {', '.join(allowed)}, not {shown(ref.media_type)}",
            field=f"inputs.{name}",
            value=shown(ref.media_type),
            bound=allowed,
        )
    return InputFile(Path(ref.path), ref.sha256, ref.media_type, ref.bytes)
