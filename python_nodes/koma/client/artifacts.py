"""Upload and download of artifacts: streamed, with progress, checked by their SHA-256 digest."""

from __future__ import annotations

import asyncio
import hashlib
import mimetypes
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO

from koma.client.errors import IntegrityError
from koma.client.files import atomic
from koma.client.http import Http
from koma.client.records import Artifact, parse

CHUNK = 256 * 1024
# Called with the bytes done so far and the total, or None where the server does not tell it.
Transferred = Callable[[int, int | None], None]


async def upload(
    http: Http, path: Path, media_type: str | None = None, progress: Transferred | None = None
) -> Artifact:
    """Store a file on the server; the media type is guessed from the name where it is not given.

    Raises ``RefusedError`` (``too_large``, ``digest_mismatch`` when the file changed meanwhile, …).
    """
    digest, size = await asyncio.to_thread(_digest, path)
    guessed = media_type or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    headers = {"content-type": guessed, "content-length": str(size), "x-content-sha256": digest}
    body = _chunks(path, size, progress)
    return parse(Artifact, await http.json("POST", "/v1/artifacts", content=body, headers=headers))


async def download(
    http: Http, artifact: str, path: Path, *, overwrite: bool = False, progress: Transferred | None = None
) -> None:
    """Write an artifact to ``path``, whole or not at all.

    Raises ``RefusedError`` (``not_found``), ``IntegrityError``, ``FileExistsError``.
    """
    digest = hashlib.sha256()
    with atomic(path, overwrite=overwrite) as file:
        async for chunk in _body(http, artifact, progress):
            digest.update(chunk)
            file.write(chunk)
        _check(artifact, digest.hexdigest())


async def read(http: Http, artifact: str) -> bytes:
    """Return the bytes of an artifact."""
    data = b"".join([chunk async for chunk in _body(http, artifact, None)])
    _check(artifact, hashlib.sha256(data).hexdigest())
    return data


async def _body(http: Http, artifact: str, progress: Transferred | None) -> AsyncIterator[bytes]:
    done = 0
    async with http.stream(f"/v1/artifacts/{artifact}") as response:
        length = response.headers.get("content-length")
        async for chunk in response.aiter_bytes(CHUNK):
            done += len(chunk)
            yield chunk
            if progress is not None:
                progress(done, int(length) if length else None)


async def _chunks(path: Path, size: int, progress: Transferred | None) -> AsyncIterator[bytes]:
    done = 0
    file = await asyncio.to_thread(path.open, "rb")
    try:
        # No more than was announced, even when the file grows meanwhile: the digest then tells.
        while done < size and (chunk := await asyncio.to_thread(file.read, min(CHUNK, size - done))):
            done += len(chunk)
            yield chunk
            if progress is not None:
                progress(done, size)
    finally:
        file.close()


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return digest, _tell(file)


def _tell(file: BinaryIO) -> int:
    return file.tell()


def _check(artifact: str, digest: str) -> None:
    if digest != artifact:
        raise IntegrityError(f"artifact {artifact} came with digest {digest}")
