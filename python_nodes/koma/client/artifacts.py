"""Upload and download of artifacts: streamed, with progress, checked by their SHA-256 digest."""

from __future__ import annotations

import asyncio
import hashlib
import io
import mimetypes
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import BinaryIO

from koma.client.errors import IntegrityError, RefusedError
from koma.client.files import atomic
from koma.client.http import Http
from koma.client.records import Artifact, Verdict, parse

CHUNK = 256 * 1024
VERIFY_S = 600.0
"""How long a server may take to examine a file: others may be before it."""
# Called with the bytes done so far and the total, or None where the server does not tell it.
Transferred = Callable[[int, int | None], None]
# Where the bytes of an upload come from: a path, the bytes, or a file that is open for reading bytes.
Source = str | os.PathLike[str] | bytes | BinaryIO
SMALL = 1024 * 1024
"""Bytes up to which an upload is sent without asking for the server's limit: they fit into the buffers of a
connection, so that a refusal is read. Of more the connection may break before."""


async def upload(
    http: Http,
    source: Source,
    media_type: str | None = None,
    progress: Transferred | None = None,
    limit: Callable[[], Awaitable[int | None]] | None = None,
) -> Artifact:
    """Store a file on the server; the media type is guessed from the name where it is not given.

    An open file is read from its position to its end and stays open. What cannot be read twice, such as a
    pipe, goes through a temporary file, as its digest is sent before its bytes. ``limit`` tells the most
    bytes that the server takes.

    Raises ``RefusedError`` (``too_large``, ``digest_mismatch`` when the file changed meanwhile, …).
    """
    file, own = await asyncio.to_thread(_opened, source)
    try:
        start = file.tell()
        digest, size = await asyncio.to_thread(_digest, file)
        if limit is not None and size > SMALL:
            _check_size(size, await limit())
        await asyncio.to_thread(file.seek, start)
        guessed = media_type or _guess(source) or "application/octet-stream"
        headers = {"content-type": guessed, "content-length": str(size), "x-content-sha256": digest}
        body = _chunks(file, size, progress)
        return parse(Artifact, await http.json("POST", "/v1/artifacts", content=body, headers=headers))
    finally:
        if own:
            file.close()


async def verify(http: Http, source: Source) -> Verdict:
    """Send a file to be examined for marks; the server does not keep it.

    Raises ``RefusedError`` (``too_large``, ``overloaded``, …).
    """
    file, own = await asyncio.to_thread(_opened, source)
    try:
        start = file.tell()
        size = await asyncio.to_thread(file.seek, 0, os.SEEK_END) - start
        await asyncio.to_thread(file.seek, start)
        headers = {"content-type": "application/octet-stream", "content-length": str(size)}
        body = _chunks(file, size, None)
        answer = await http.json("POST", "/v1/verify", content=body, headers=headers, timeout=VERIFY_S)
        return parse(Verdict, answer)
    finally:
        if own:
            file.close()


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


async def _chunks(file: BinaryIO, size: int, progress: Transferred | None) -> AsyncIterator[bytes]:
    done = 0
    # No more than was announced, even when the file grows meanwhile: the digest then tells.
    while done < size and (chunk := await asyncio.to_thread(file.read, min(CHUNK, size - done))):
        done += len(chunk)
        yield chunk
        if progress is not None:
            progress(done, size)


def _opened(source: Source) -> tuple[BinaryIO, bool]:
    """A file that can be read twice, and whether it is ours to close."""
    if isinstance(source, bytes):
        return io.BytesIO(source), True
    if not isinstance(source, str | os.PathLike):
        return (source, False) if source.seekable() else (_copy(source), True)
    file = Path(source).open("rb")  # noqa: SIM115 (closed by the caller)
    if file.seekable():
        return file, True
    with file:
        return _copy(file), True


def _copy(file: BinaryIO) -> BinaryIO:
    copy = tempfile.SpooledTemporaryFile(max_size=SMALL)  # noqa: SIM115 (closed by the caller)
    shutil.copyfileobj(file, copy, CHUNK)
    copy.seek(0)
    return copy  # type: ignore[return-value]


def _guess(source: Source) -> str | None:
    """The media type that the name of a file says, if it has one."""
    name = source if isinstance(source, str | os.PathLike) else getattr(source, "name", None)
    return mimetypes.guess_type(os.fspath(name))[0] if isinstance(name, str | os.PathLike) else None


def _digest(file: BinaryIO) -> tuple[str, int]:
    """The digest of the rest of a file, and how many bytes that is."""
    digest, size = hashlib.sha256(), 0
    while chunk := file.read(CHUNK):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def _check_size(size: int, bound: int | None) -> None:
    if bound is not None and size > bound:
        message = f"The file has {size} bytes; the server takes at most {bound}."
        error = {"code": "too_large", "message": message, "field": "body", "value": size, "bound": bound}
        raise RefusedError(error)


def _check(artifact: str, digest: str) -> None:
    if digest != artifact:
        raise IntegrityError(f"artifact {artifact} came with digest {digest}")
