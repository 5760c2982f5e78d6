"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic(path: Path, *, overwrite: bool = False, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` that takes its name when the block ends without an error.

    ``mode`` is that of the file, less what the umask takes away.

    Raises ``FileExistsError`` when ``path`` is there at that moment and ``overwrite`` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.chmod(mode & ~_umask())
        if overwrite:
            part.replace(path)
        else:
            os.link(part, path)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def write_atomic(path: Path, data: bytes, *, overwrite: bool = False, mode: int = 0o666) -> None:
    """Write ``data`` to ``path``, whole or not at all."""
    with atomic(path, overwrite=overwrite, mode=mode) as file:
        file.write(data)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
