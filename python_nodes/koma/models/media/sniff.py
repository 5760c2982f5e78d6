"""Tells the media type of a file from its first bytes; names and announced types may lie.

``lib/koma/store/media_type.ex`` tells the same of the same bytes: both are held to
``test/media/heads.json``.
"""

from __future__ import annotations

from collections.abc import Callable

from koma.errors import KomaError
from koma.models.media import limits
from koma.runtime.runner import InputFile

IMAGE_TYPES = ("image/png", "image/jpeg", "image/webp", "image/avif")
VIDEO_TYPES = ("video/mp4", "video/quicktime", "video/webm", "video/x-matroska", "image/gif")
SNIFFED_BYTES = 512
"""Enough for three packets of an MPEG transport stream and for the header of any Matroska file."""

NAMES = {
    "image/png": "a PNG picture",
    "image/jpeg": "a JPEG picture",
    "image/webp": "a WebP picture",
    "image/avif": "an AVIF picture",
    "image/gif": "a GIF animation",
    "video/mp4": "an MP4 video",
    "video/quicktime": "a QuickTime video",
    "video/webm": "a WebM video",
    "video/x-matroska": "a Matroska video",
    "image/heic": "a HEIC picture",
    "image/heif": "a HEIF picture",
    "image/bmp": "a BMP picture",
    "image/tiff": "a TIFF picture",
    "image/jxl": "a JPEG XL picture",
    "image/jp2": "a JPEG 2000 picture",
    "image/x-icon": "an icon",
    "image/vnd.adobe.photoshop": "a Photoshop document",
    "image/svg+xml": "an SVG drawing",
    "video/x-msvideo": "an AVI video",
    "video/mp2t": "an MPEG transport stream",
    "video/mpeg": "an MPEG video",
    "video/x-flv": "a Flash video",
    "video/x-ms-asf": "a Windows Media file",
    "audio/mp4": "an MPEG-4 sound",
    "audio/mpeg": "an MP3 sound",
    "audio/wav": "a WAV sound",
    "audio/flac": "a FLAC sound",
    "application/ogg": "an Ogg file",
    "application/ebml": "an EBML file",
    "application/pdf": "a PDF document",
    "application/zip": "a ZIP archive",
    "application/gzip": "a gzip archive",
    "text/html": "a web page",
}
"""Every type that the bytes can tell, as a sentence names it."""

_STARTS = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"II*\0": "image/tiff",
    b"MM\0*": "image/tiff",
    b"II+\0": "image/tiff",
    b"MM\0+": "image/tiff",
    b"\xff\x0a": "image/jxl",
    b"\0\0\0\x0cJXL \r\n\x87\n": "image/jxl",
    b"\0\0\0\x0cjP  \r\n\x87\n": "image/jp2",
    b"\0\0\x01\0": "image/x-icon",
    b"8BPS": "image/vnd.adobe.photoshop",
    b"<svg": "image/svg+xml",
    b"\0\0\x01\xba": "video/mpeg",
    b"\0\0\x01\xb3": "video/mpeg",
    b"FLV\x01": "video/x-flv",
    b"0&\xb2u\x8ef\xcf\x11": "video/x-ms-asf",
    b"ID3": "audio/mpeg",
    b"\xff\xfb": "audio/mpeg",
    b"\xff\xfa": "audio/mpeg",
    b"\xff\xf3": "audio/mpeg",
    b"\xff\xf2": "audio/mpeg",
    b"fLaC": "audio/flac",
    b"OggS": "application/ogg",
    b"%PDF-": "application/pdf",
    b"PK\x03\x04": "application/zip",
    b"\x1f\x8b\x08": "application/gzip",
}
_RIFF = {b"WEBP": "image/webp", b"AVI ": "video/x-msvideo", b"WAVE": "audio/wav"}
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_PICTURE_BRANDS = frozenset({b"mif1", b"mif2", b"msf1", b"miaf"})
"""Of the container alone: the codec stands among the brands that follow."""
_SOUND_BRANDS = frozenset({b"M4A ", b"M4B ", b"M4P "})
_QUICKTIME_ATOMS = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
_DOC_TYPES = {b"webm": "video/webm", b"matroska": "video/x-matroska"}


def media_type(start: bytes) -> str | None:
    """Return the media type of a file that starts with ``start``, or None where the bytes do not tell."""
    start = start[:SNIFFED_BYTES]
    for magic, name in _STARTS.items():
        if start.startswith(magic):
            return name
    tests: tuple[Callable[[bytes], str | None], ...] = (_riff, _iso, _quicktime, _ebml, _other)
    return next((kind for test in tests if (kind := test(start)) is not None), None)


def _riff(start: bytes) -> str | None:
    return _RIFF.get(start[8:12]) if start[:4] == b"RIFF" else None


def _iso(start: bytes) -> str | None:
    """Files of ISO/IEC 14496-12 begin with their brands; any that names no other kind of file is a video."""
    if start[4:8] != b"ftyp":
        return None
    major, end = start[8:12], min(int.from_bytes(start[:4], "big"), len(start))
    brands = {start[at : at + 4] for at in range(16, end - 3, 4)}
    if major in _AVIF_BRANDS or (major in _PICTURE_BRANDS and brands & _AVIF_BRANDS):
        return "image/avif"
    if major in _HEIC_BRANDS or (major in _PICTURE_BRANDS and brands & _HEIC_BRANDS):
        return "image/heic"
    if major in _PICTURE_BRANDS:
        return "image/heif"
    if major in _SOUND_BRANDS:
        return "audio/mp4"
    return "video/quicktime" if major[:2] == b"qt" else "video/mp4"


def _quicktime(start: bytes) -> str | None:
    """Older files have no brands: an atom of less than 512 MiB comes first, which no text begins with."""
    return "video/quicktime" if start[4:8] in _QUICKTIME_ATOMS and start[0] < 0x20 else None


def _ebml(start: bytes) -> str | None:
    """WebM and other Matroska files differ in the DocType of their header (RFC 8794, 11.2.6)."""
    if start[:4] != b"\x1a\x45\xdf\xa3":
        return None
    _, found, rest = start.partition(b"\x42\x82")
    if not found or not rest or not rest[0]:
        return "video/x-matroska"
    width = 9 - rest[0].bit_length()  # of the length: it is told by the first bit that is set
    length = int.from_bytes(rest[:width], "big") & ~(1 << 7 * width)
    return _DOC_TYPES.get(rest[width : width + length].rstrip(b"\0"), "application/ebml")


def _other(start: bytes) -> str | None:
    if start[:2] == b"BM" and start[6:10] == b"\0\0\0\0":
        return "image/bmp"
    for offset in (0, 4):  # a packet every 188 bytes, or every 192 with a time before each
        if [start[at : at + 1] for at in range(offset, 3 * 188, 188 + offset)[:3]] == [b"G"] * 3:
            return "video/mp2t"
    text = start.lstrip()[:14].lower()
    return "text/html" if text.startswith((b"<!doctype html", b"<html")) else None


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
        told = f"{field} has {limits.mebibytes(size)}, at most {limits.mebibytes(max_bytes)} are read"
        raise KomaError("too_large", told, field=field, value=size, bound=max_bytes)
    with file.path.open("rb") as opened:
        kind = media_type(opened.read(SNIFFED_BYTES))
    if kind not in allowed:
        raise KomaError(
            "unsupported_media",
            f"{field} is {NAMES[kind] if kind else 'of no known media type'}; {_wanted(kind, allowed)}",
            field=field,
            value=kind or "unknown",
            bound=", ".join(allowed),
        )
    return kind


def _wanted(kind: str | None, allowed: tuple[str, ...]) -> str:
    """What to do about it: pictures can be converted to pictures, anything else was the wrong file."""
    *names, last = [NAMES[name].split()[1] for name in allowed]
    alike = kind is not None and kind.split("/")[0] in {name.split("/")[0] for name in allowed}
    return f"{'convert it to' if alike else 'it must be'} {', '.join(names)} or {last}"
