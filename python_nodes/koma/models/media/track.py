"""Opens a video and finds the track that players show; says what is wrong where none can be read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from koma.errors import KomaError
from koma.models.media import limits, sniff
from koma.runtime.runner import InputFile

_MATROSKA = ("video/webm", "video/x-matroska")
_DEMUXERS = {
    "video/mp4": "mp4",
    "video/quicktime": "mov",
    "image/gif": "gif",
    **dict.fromkeys(_MATROSKA, "matroska"),
}
_NO_MOVIE = (
    av.stream.Disposition.attached_pic
    | av.stream.Disposition.timed_thumbnails
    | av.stream.Disposition.still_image
)
_WEBM_SEGMENT = 0x18538067
_UNREADABLE = (av.FFmpegError, ValueError, ArithmeticError, EOFError)
"""What PyAV raises on bytes that make no sense."""


@dataclass(frozen=True)
class Track:
    """The video track of an open container."""

    container: Any
    stream: Any
    kind: str
    """Media type of the file"""

    @property
    def leaps(self) -> bool:
        """Whether decoding may begin at key frames; a picture of a GIF is drawn over all before it."""
        return self.kind != "image/gif"

    @property
    def promised(self) -> int:
        """Packets that the file's index lists; 0 where there is no index of all packets."""
        return len(self.stream.index_entries) if self.kind in ("video/mp4", "video/quicktime") else 0


@contextmanager
def opened(file: InputFile, field: str) -> Iterator[Track]:
    """Open the track of ``file`` that players show.

    The decoder refuses frames of more than ``MAX_VIDEO_PIXELS`` before it takes memory for them.

    Raises:
        KomaError: ``unsupported_media`` or ``invalid_media``; the errors of the library, also those that are
            raised inside the context, become ``invalid_media``.
    """
    kind = sniff.check(file, field, sniff.VIDEO_TYPES, limits.MAX_VIDEO_BYTES)
    options = {"max_pixels": str(limits.MAX_VIDEO_PIXELS)}
    try:
        if kind in _MATROSKA:
            _check_whole(file.path, field)
        with av.open(
            str(file.path), format=_DEMUXERS[kind], options=options, metadata_errors="replace"
        ) as container:
            stream = _shown_track(container, file.path, kind, field)
            for other in container.streams:
                if other.index != stream.index:
                    other.discard = av.stream.Discard.all
            stream.codec_context.options = options
            yield Track(container, stream, kind)
    except _UNREADABLE as error:
        # The whole text of an FFmpegError names the file, which is a path of this machine.
        reason = getattr(error, "strerror", None) or error
        raise KomaError(
            "invalid_media", f"{field}: truncated or damaged: {reason}", field=field, value=kind
        ) from error


def _shown_track(container: Any, path: Path, kind: str, field: str) -> Any:
    movies = [stream for stream in container.streams.video if not stream.disposition & _NO_MOVIE]
    if not movies:
        only = ", only a picture" if container.streams.video else ""
        raise KomaError("invalid_media", f"{field}: has no video track{only}", field=field, value=kind)
    known = [stream for stream in movies if stream.codec_context is not None]
    if not known:
        codec = _codec_name(path, movies[0].index)
        raise KomaError(
            "unsupported_media", f"{field}: its codec {codec} is not known here", field=field, value=codec
        )
    return max(known, key=_likeness_to_a_movie)


def _likeness_to_a_movie(stream: Any) -> tuple[bool, bool, int, int]:
    """A track of one frame is a thumbnail; players show the track that is marked as the default one."""
    is_default = bool(stream.disposition & av.stream.Disposition.default)
    return stream.frames != 1, is_default, stream.frames, -stream.index


def _codec_name(path: Path, index: int) -> str:
    """The codec of a track as the file names it; the library tells only those that it knows."""
    data = path.read_bytes()
    names = re.findall(rb"stsd.{12}([ -~]{4})", data, re.DOTALL) or re.findall(rb"V_[A-Z0-9_/.]+", data)
    return names[min(index, len(names) - 1)].decode("ascii").strip() if names else "of this track"


def _check_whole(path: Path, field: str) -> None:
    """Refuse a WebM file that is shorter than it says; a recording while it lasts does not say (RFC 8794)."""
    size = path.stat().st_size
    with path.open("rb") as opened_file:
        head = opened_file.read(4096)
    place, promised = 0, 0
    for _ in range(2):  # the EBML header, then the segment that holds everything else
        identifier, place = _number(head, place, keep_marker=True)
        length, place = _number(head, place, keep_marker=False)
        if identifier == _WEBM_SEGMENT and length >= 0:
            promised = place + length
        place += max(length, 0)
    if size < promised:
        raise KomaError(
            "invalid_media",
            f"{field}: truncated, {size:,} of {promised:,} bytes are there",
            field=field,
            value=size,
            bound=promised,
        )


def _number(data: bytes, place: int, keep_marker: bool) -> tuple[int, int]:
    """An EBML number at ``place`` and the place behind it; -1 stands for an unknown length."""
    first = data[place] if place < len(data) else 0
    width = 9 - first.bit_length()
    raw = int.from_bytes(data[place : place + width], "big")
    ones = (1 << 7 * width) - 1
    if keep_marker:
        return raw, place + width
    return (-1 if raw & ones == ones else raw & ones), place + width
