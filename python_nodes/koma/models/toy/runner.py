"""The runner of the toy family."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from koma.errors import KomaError
from koma.models.toy import faults
from koma.models.toy.params import Fault, ToyParams
from koma.runtime.pulse import beat
from koma.runtime.runner import InputSpec, Loaded, Output, Preview, Request, Runner, State, TaskSpec

TASK = "toy.run"
FILE_TYPES = (
    "application/octet-stream",
    "text/plain",
    "application/json",
    "image/png",
    "image/jpeg",
    "image/webp",
    "image/gif",
    "video/mp4",
    "video/webm",
    "video/quicktime",
)
_MIB = 1 << 20
_BEAT_S = 0.01
_SLOW_FINISH_S = 60.0


@dataclass
class ToyState(State):
    """The "latents" are a digest that every step hashes once more."""

    params: ToyParams = field(default_factory=ToyParams)
    fault: Fault = "none"
    digest: bytes = b""
    file_sha256: str | None = None
    words: list[str] = field(default_factory=list)
    ballast: bytearray = field(default_factory=bytearray)


class ToyRunner(Runner):
    """Counts steps and hashes."""

    preparers = 1

    def __init__(self, loaded: Loaded, batch_limit: int | None) -> None:
        self.loaded = loaded
        self.tasks: Mapping[str, TaskSpec] = {
            TASK: TaskSpec(
                params=ToyParams,
                inputs={"file": InputSpec(FILE_TYPES, "Any file; its digest becomes part of the result.")},
                outputs={"result": "application/json"},
                steps=lambda params: int(params.steps),
            )
        }
        self._batch_limit = batch_limit

    def prepare(self, request: Request) -> ToyState:
        """Hash the seed and the file."""
        beat()
        params = cast(ToyParams, request.params)
        fault = faults.active(params, request.attempt)
        if fault == "prepare":
            raise RuntimeError("the toy was told to fail in prepare")
        if fault == "slow_prepare":
            _work(params.steps * params.step_ms / 1000)
        file = request.inputs.get("file")
        sha256 = None if file is None else _hash(file.path)
        digest = hashlib.sha256(f"{params.seed}/{sha256}".encode()).digest()
        ballast = bytearray(b"\x01" * (params.allocate_mb * _MIB))
        return ToyState(request, params.steps, 0, False, params, fault, digest, sha256, [], ballast)

    def key(self, state: State) -> Hashable:
        """Steps of equal length share a forward."""
        return _toy(state).params.step_ms

    def step(self, states: Sequence[State]) -> None:
        """Sleep once for all, then hash each; faults strike before anything has changed."""
        rows = [_toy(state) for state in states]
        if self._batch_limit is not None and len(rows) > self._batch_limit:
            raise MemoryError(f"{len(rows)} rows; the toy holds {self._batch_limit}")
        for row in rows:
            if row.step == row.params.fail_at:
                faults.strike(row.fault, row.step)
        time.sleep(rows[0].params.step_ms / 1000)
        for row in rows:
            _advance(row)

    def text(self, state: State) -> str:
        """The word of the last step."""
        row = _toy(state)
        return row.words[-1] if row.params.tokens else ""

    def preview(self, state: State) -> Preview | None:
        """Bytes of the asked size."""
        row = _toy(state)
        if row.fault == "preview":
            raise RuntimeError("the toy was told to fail in preview")
        size = row.params.preview_bytes
        return (
            None
            if size == 0
            else Preview("application/octet-stream", _stretch(row.digest, size), row.step, row.total)
        )

    def finish(self, state: State) -> list[Output]:
        """Tell the digest as JSON: inline, or in a file of at least ``output_bytes``."""
        row = _toy(state)
        if row.fault == "finish":
            raise RuntimeError("the toy was told to fail in finish")
        if row.fault == "slow_finish":
            _work(_SLOW_FINISH_S)
        content = _result(row)
        if row.params.output_bytes == 0:
            return [Output("result", "application/json", text=json.dumps(content))]
        missing = row.params.output_bytes - len(json.dumps(content | {"padding": ""}))
        beat()
        path = row.request.folder() / "result.json"
        path.write_text(
            json.dumps(content | {"padding": _stretch(row.digest, max(0, missing + 1) // 2).hex()})
        )
        return [Output("result", "application/json", path=path)]


def load(checkpoint: str, device: str, dtype: str, slots: int, options: Mapping[str, Any]) -> ToyRunner:
    """Return the toy; there is nothing to load, but a checkpoint that is named as a path must be there.

    ``options``: ``load_ms`` (time that loading takes), ``batch_limit`` (larger batches raise MemoryError),
    ``fail_load`` (raise instead). Raises KomaError ``load_failed`` for others.
    """
    for name in options:
        if name not in ("load_ms", "batch_limit", "fail_load"):
            raise KomaError("load_failed", f"the toy has no option {name}", field=f"options.{name}")
    if options.get("fail_load"):
        raise RuntimeError("the toy was told not to load")
    if checkpoint.startswith("/") and not Path(checkpoint).exists():
        raise KomaError("load_failed", f"there is no checkpoint {checkpoint}", field="checkpoint")
    time.sleep(options.get("load_ms", 0) / 1000)
    digest = hashlib.sha256(f"toy/{checkpoint}".encode()).hexdigest()
    return ToyRunner(Loaded("toy", checkpoint, digest, "cpu", "none"), options.get("batch_limit"))


def _toy(state: State) -> ToyState:
    return cast(ToyState, state)


def _advance(row: ToyState) -> None:
    row.digest = hashlib.sha256(row.digest).digest()
    if row.params.tokens:
        row.words.append(f"{'' if row.step == 0 else ' '}{row.digest[:3].hex()}")
    row.step += 1
    row.done = row.step >= row.total


def _result(row: ToyState) -> dict[str, Any]:
    told: dict[str, Any] = {"seed": row.params.seed, "steps": row.step, "digest": row.digest.hex()}
    if row.params.tokens:
        told["text"] = "".join(row.words)
    return told if row.file_sha256 is None else told | {"file": row.file_sha256}


def _work(seconds: float) -> None:
    """Take so long, and beat meanwhile, as decoding does."""
    until = time.monotonic() + seconds
    beat()
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, _BEAT_S))
        beat()


def _hash(path: Path) -> str:
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_MIB):
            beat()
            hasher.update(chunk)
    return hasher.hexdigest()


def _stretch(digest: bytes, size: int) -> bytes:
    """Return ``size`` bytes that depend on ``digest`` alone."""
    return hashlib.shake_256(digest).digest(size)
