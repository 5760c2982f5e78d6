"""From the outputs of a runner to what ``done`` tells: checked, measured, hashed."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from koma.errors import KomaError
from koma.port.limits import MAX_INLINE_TEXT, MAX_OUTPUTS
from koma.port.messages import OutputRef
from koma.runtime.pulse import beat
from koma.runtime.runner import Output, Request

_CHUNK = 1 << 20


def collect(outputs: Sequence[Output], request: Request) -> tuple[OutputRef, ...]:
    """Return what the gateway is told of ``outputs``; a long text is written to a file.

    Raises KomaError ``model_failed`` where the runner broke its contract, ``too_large`` for too many outputs.
    """
    _check(outputs)
    written: list[Output] = []
    try:
        return tuple(_reference(_filed(output, request, written), request.output_dir) for output in outputs)
    except BaseException:
        discard(written)
        raise


def discard(outputs: Iterable[Output | OutputRef]) -> None:
    """Delete the files of results that nobody wants any more."""
    for output in outputs:
        if output.path is not None:
            with contextlib.suppress(OSError):
                Path(output.path).unlink()


def _check(outputs: Sequence[Output]) -> None:
    if len(outputs) > MAX_OUTPUTS:
        raise KomaError(
            "too_large",
            f"{len(outputs)} outputs of one job",
            field="outputs",
            value=len(outputs),
            bound=MAX_OUTPUTS,
        )
    if len({output.name for output in outputs}) < len(outputs):
        raise KomaError("model_failed", "two outputs of one name")
    for output in outputs:
        if (output.path is None) == (output.text is None):
            raise KomaError("model_failed", f"the output {output.name} needs a path or a text, one of them")


def _filed(output: Output, request: Request, written: list[Output]) -> Output:
    """Write a text that is too long to travel in a message to a file, which is added to ``written``."""
    data = _encoded(output)
    if len(data) <= MAX_INLINE_TEXT:
        return output
    path = request.folder() / f"{output.name}.txt"
    written.append(Output(output.name, output.media_type, path=path, meta=output.meta))
    path.write_bytes(data)
    return written[-1]


def _reference(output: Output, folder: Path) -> OutputRef:
    if output.text is None:
        return _file(output, folder)
    data = _encoded(output)
    digest = hashlib.sha256(data).hexdigest()
    return OutputRef(output.name, output.media_type, None, digest, len(data), output.text, output.meta)


def _encoded(output: Output) -> bytes:
    return (output.text or "").encode("utf-8", "replace")


def _file(output: Output, folder: Path) -> OutputRef:
    path = output.path
    if path is None or not path.is_file() or folder.resolve() not in path.resolve().parents:
        raise KomaError("model_failed", f"the output {output.name} is no file below the output folder")
    digest, size = _digest(path)
    return OutputRef(output.name, output.media_type, str(path), digest, size, None, output.meta)


def _digest(path: Path) -> tuple[str, int]:
    hasher, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            beat()
            hasher.update(chunk)
            size += len(chunk)
    return hasher.hexdigest(), size
