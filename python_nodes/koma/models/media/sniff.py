"""Tells the media type of a file from its first bytes; names and announced types may lie."""

from __future__ import annotations

from koma.errors import KomaError
from koma.runtime.runner import InputFile

IMAGE_TYPES = ("image/png", "image/jpeg", "image/webp")
VIDEO_TYPES = ("video/mp4", "video/quicktime", "video/webm", "image/gif")
SNIFFED_BYTES = 64

_STARTS = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"\x1aE\xdf\xa3": "video/webm",
}
_QUICKTIME_ATOMS = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")


def media_type(start: bytes) -> str | None:
    """Return the media type of a file that starts with ``start``, or None where it is none that Koma
    reads."""
    for magic, kind in _STARTS.items():
        if start.startswith(magic):
            return kind
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "image/webp"
    if start[4:8] == b"ftyp":
        return "video/quicktime" if start[8:10] == b"qt" else "video/mp4"
    return "video/quicktime" if start[4:8] in _QUICKTIME_ATOMS else None


def check(file: InputFile, field: str, allowed: tuple[str, ...], max_bytes: int) -> str:
    """Return the true media type of ``file``.

    Raises:
        KomaError: ``invalid_media`` (empty), ``too_large`` or ``unsupported_media`` (its bytes are of
        another type).
    """
    size = file.path.stat().st_size
    if size == 0:
        raise KomaError(
            "invalid_media", f"{field}: the file is empty", field=field, value=0, bound="at least 1 byte"
        )
    if size > max_bytes:
        raise KomaError(
            "too_large",
            f"{field}: {size} bytes, at most {max_bytes}",
            field=field,
            value=size,
            bound=max_bytes,
        )
    with file.path.open("rb") as opened:
        kind = media_type(opened.read(SNIFFED_BYTES))
    if kind not in allowed:
        found = kind or "of no known media type"
        raise KomaError(
            "unsupported_media",
            f"{field}: announced as {file.media_type}, but the bytes are {found}",
            field=field,
            value=kind or "unknown",
            bound=", ".join(allowed),
        )
    return kind
