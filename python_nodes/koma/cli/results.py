"""Results of jobs as files and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from koma.cli.display import emit
from koma.cli.options import Common
from koma.client import Client, Output, ProtocolError
from koma.client.files import write_atomic


async def text_of(client: Client, output: Output) -> str:
    """Return a text result, also one that was too long to travel in the event."""
    if output.text is not None:
        return output.text
    return (await client.read(_artifact(output))).decode()


async def save(client: Client, output: Output, path: Path, *, overwrite: bool) -> None:
    """Write a result to a file, whole or not at all; text ends with a line break."""
    if output.text is not None:
        write_atomic(path, f"{output.text}\n".encode(), overwrite=overwrite)
    else:
        await client.download(_artifact(output), path, overwrite=overwrite)


def numbered(path: Path, count: int) -> list[Path]:
    """Return the files of ``count`` results: ``cat.png``, ``cat_2.png``, …"""
    return [path, *(path.with_stem(f"{path.stem}_{number}") for number in range(2, count + 1))]


def tell_files(common: Common, outputs: Sequence[tuple[Output, Path | None]], end: Mapping[str, Any]) -> None:
    """Report the end: one JSON line with every output and its path, or the paths on stdout."""
    if common.json:
        emit({"event": "result", **end, "outputs": [described(output, path) for output, path in outputs]})
        return
    for _, path in outputs:
        if path is not None:
            print(path)


def described(output: Output, path: Path | None) -> dict[str, Any]:
    """Return an output in the shape of docs/api.md, with the path where it was written."""
    record = output.model_dump(by_alias=True, exclude_none=True)
    return {**record, "path": str(path)} if path is not None else record


def _artifact(output: Output) -> str:
    if output.artifact is None:
        raise ProtocolError(f"output {output.name!r} has neither text nor artifact")
    return output.artifact
