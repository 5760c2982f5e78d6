"""What the containers of pictures hold beside the pixels, taken apart before a decoder sees them.

Browsers show a picture whose optional parts are damaged, and so does Koma: PNG and JPEG are handed on
without their optional parts, and those that count (colour profile, orientation) are read on their own.
"""

from __future__ import annotations

import itertools
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from koma.models.media import limits

PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT"})
_PNG_ANIMATION = frozenset({b"acTL", b"fcTL", b"fdAT"})
_PNG_END = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))

_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_END = b"\xff\xd9"
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""Among pixels: neither a stuffed byte nor a restart."""
_SOF0, _SOF2, _EOI, _SOS, _APP0, _APP1, _APP2, _APP14, _APP15, _COM = (
    0xC0, 0xC2, 0xD9, 0xDA, 0xE0, 0xE1, 0xE2, 0xEE, 0xEF, 0xFE,
)  # fmt: skip


class BombError(Exception):
    """Something small unpacks to something too large: ``value`` is its size, ``bound`` the limit."""

    def __init__(self, what: str, value: int, bound: int) -> None:
        super().__init__(what)
        self.value = value
        self.bound = bound


class UnsupportedError(Exception):
    """A kind of picture that no decoder here reads."""


@dataclass(slots=True)
class Container:
    """A picture and what is told about it."""

    data: bytes
    """What the decoder gets."""
    profile: bytes | None = None
    """ICC profile."""
    exif: bytes | None = None
    frames: int = 1
    first: int = 0
    """Where the first frame of an animation lies: after a still picture that only other programs show."""
    ending: bytes = b""
    """What a truncated file lacks at least; with it the decoder makes the most of the rest."""
    coarse: bool = False
    """Whether every part of the picture is there, if only coarsely."""


def open_png(data: bytes) -> Container:
    """Take a PNG apart: its pixels and palette stay; damaged optional chunks are dropped unread.

    Raises:
        BombError: a colour profile unpacks to more than ``MAX_PROFILE_BYTES``.
    """
    found = Container(b"")
    chunks = list(_png_chunks(data))
    found.frames, found.first = _animation(chunks)
    kept = _PNG_PIXELS | _PNG_ANIMATION if found.first else _PNG_PIXELS
    header = next((bytes(body) for kind, body in chunks if kind == b"IHDR"), b"")
    parts: list[bytes | memoryview] = [PNG_START]
    for kind, body in chunks:
        if kind in kept:
            parts += _png_chunk(kind, _scaled(body, header) if kind == b"tRNS" else body)
        elif kind == b"iCCP" and found.profile is None:
            found.profile = _unpacked(bytes(body))
        elif kind == b"eXIf":
            found.exif = bytes(body)
    found.data = b"".join([*parts, _PNG_END])
    return found


def _animation(chunks: Sequence[tuple[bytes, memoryview]]) -> tuple[int, int]:
    """How many frames an animated PNG has, and which picture of the file is the first of them."""
    kinds = [kind for kind, _ in chunks]
    control = next((body for kind, body in chunks if kind == b"acTL"), memoryview(b""))
    frames = int.from_bytes(control[:4], "big") if len(control) == 8 else 0
    if frames == 0 or b"IDAT" not in kinds:
        return 1, 0
    return frames, int(b"fcTL" not in kinds[: kinds.index(b"IDAT")])


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """The chunks that are whole, and the pixels of one that is cut off."""
    view, at = memoryview(data), len(PNG_START)
    for number in itertools.count():
        if at + 8 > len(data):
            return
        _check_parts(number)
        length, kind = int.from_bytes(view[at : at + 4], "big"), bytes(view[at + 4 : at + 8])
        body, checksum = view[at + 8 : at + 8 + length], view[at + 8 + length : at + 12 + length]
        whole = len(checksum) == 4 and zlib.crc32(body, zlib.crc32(kind)) == int.from_bytes(checksum, "big")
        # Pixels are checked by what they unpack to; all else counts only if its checksum does.
        if whole or kind in (b"IDAT", b"fdAT"):
            yield kind, body
        if kind == b"IEND":
            return
        at += 12 + length


def _check_parts(number: int) -> None:
    bound = limits.MAX_IMAGE_PARTS
    if number > bound:
        raise BombError(f"it has more than {bound:,} parts, the most that are read", number, bound)


def _png_chunk(kind: bytes, body: bytes | memoryview) -> list[bytes | memoryview]:
    checksum = zlib.crc32(body, zlib.crc32(kind))
    return [struct.pack(">I", len(body)), kind, body, struct.pack(">I", checksum)]


def _scaled(body: bytes | memoryview, header: bytes) -> bytes:
    """A transparent colour in samples of 8 bits, as the decoder returns all but grey ones of 16."""
    depth, colours = (header[8], header[9]) if len(header) >= 10 else (8, 3)
    samples = [value for (value,) in struct.iter_unpack(">H", bytes(body)[: len(body) // 2 * 2])]
    if colours == 0 and depth < 8:
        samples = [value * 255 // ((1 << depth) - 1) & 0xFF for value in samples]
    elif colours == 2 and depth == 16:
        samples = [value >> 8 for value in samples]
    else:
        return bytes(body)
    return struct.pack(f">{len(samples)}H", *samples)


def _unpacked(body: bytes) -> bytes | None:
    """The profile in an iCCP chunk: a name, a zero, the method (0), and what zlib packed."""
    _, _, packed = body.partition(b"\0")
    unpacker = zlib.decompressobj()
    try:
        profile = unpacker.decompress(packed[1:], limits.MAX_PROFILE_BYTES + 1)
    except zlib.error:
        return None
    check_profile(profile)
    return profile


def check_profile(profile: bytes) -> None:
    """Raise ``BombError`` for a colour profile that is larger than any real one."""
    if len(profile) > limits.MAX_PROFILE_BYTES:
        bound = limits.MAX_PROFILE_BYTES
        raise BombError(
            f"its colour profile has more than {limits.mebibytes(bound)}, the most that are read",
            len(profile),
            bound,
        )


@dataclass(slots=True)
class _Segments:
    """What the segments before the pixels of a JPEG say."""

    kept: list[bytes | memoryview] = field(default_factory=lambda: [b"\xff\xd8"])
    profile: dict[int, bytes] = field(default_factory=dict)
    exif: bytes | None = None
    scans: int = -1
    """Where the pixels begin; -1 until they are found."""


def open_jpeg(data: bytes) -> Container:
    """Take a JPEG apart: application segments other than JFIF's and Adobe's are not handed on.

    Raises:
        BombError: more than ``MAX_IMAGE_SCANS`` passes over the pixels, or too large a colour profile.
        UnsupportedError: a JPEG of 12 bits, or lossless.
    """
    found = _Segments()
    for marker, segment in _jpeg_segments(data, found):
        _take(found, marker, segment)
    if found.scans < 0:
        return Container(data)
    scans, end = _jpeg_scans(data, found.scans)
    if scans > limits.MAX_IMAGE_SCANS:
        bound = limits.MAX_IMAGE_SCANS
        raise BombError(f"it passes over its pixels {scans} times, at most {bound} are read", scans, bound)
    profile = b"".join(found.profile[number] for number in sorted(found.profile)) or None
    if profile is not None:
        check_profile(profile)
    body = b"".join([*found.kept, memoryview(data)[found.scans : end]])
    return Container(body, profile, found.exif, ending=_JPEG_END, coarse=scans > 1)


def _jpeg_segments(data: bytes, found: _Segments) -> Iterator[tuple[int, memoryview]]:
    """Markers and payloads up to the first scan, whose place is noted; bytes between them are skipped."""
    view, at = memoryview(data), 2
    for number in itertools.count():
        at = data.find(b"\xff", at)
        if at < 0 or at + 4 > len(data):
            return
        _check_parts(number)
        marker = data[at + 1]
        if marker == _SOS:
            found.scans = at
            return
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8:
            at += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(view[at + 2 : at + 4], "big")
        yield marker, view[at + 4 : at + 2 + length]
        at += 2 + max(length, 2)


def _jpeg_scans(data: bytes, at: int) -> tuple[int, int]:
    """How often a JPEG passes over its pixels, and where it ends: other files may follow."""
    scans = 0
    for number in itertools.count():
        _check_parts(number)
        marker = _JPEG_MARKER.search(data, at)
        if marker is None:
            return scans, len(data)
        at, kind = marker.end(), data[marker.end() - 1]
        if kind == _EOI:
            return scans, at
        scans += kind == _SOS
        at += int.from_bytes(data[at : at + 2], "big")
    raise AssertionError("unreachable")


def _take(found: _Segments, marker: int, segment: memoryview) -> None:
    if marker in _JPEG_FRAMES:
        _check_frame(marker, segment)
    start = bytes(segment[:14])
    if marker == _APP1 and start.startswith(b"Exif\0\0") and found.exif is None:
        found.exif = bytes(segment)
    elif marker == _APP2 and start.startswith(b"ICC_PROFILE\0") and len(segment) > 14:
        found.profile.setdefault(start[12], bytes(segment[14:]))
    jfif = marker == _APP0 and start.startswith(b"JFIF\0") and len(segment) >= 14
    adobe = marker == _APP14 and start.startswith(b"Adobe") and len(segment) >= 12
    if jfif or adobe or not (_APP0 <= marker <= _APP15 or marker == _COM):
        found.kept += [struct.pack(">BBH", 0xFF, marker, len(segment) + 2), segment]


def _check_frame(marker: int, segment: memoryview) -> None:
    if not _SOF0 <= marker <= _SOF2:
        raise UnsupportedError("a lossless or arithmetic JPEG")
    if len(segment) and segment[0] != 8:
        raise UnsupportedError(f"a JPEG of {segment[0]} bits a sample")
