"""Reads videos within limits: first what they are, then only the frames that are asked for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from koma.errors import KomaError
from koma.models.media import limits, sniff
from koma.runtime.pulse import beat
from koma.runtime.runner import InputFile

LONG_VIDEO = 300
"""Frames from which on leaping to key frames is worth a second pass over the packets."""
LARGE_FRAME = 1280 * 720
"""Pixels of a frame from which on decoding several at a time is worth starting threads for each clip."""

_DEMUXERS = {"video/mp4": "mp4", "video/quicktime": "mov", "video/webm": "matroska", "image/gif": "gif"}


@dataclass(frozen=True)
class Video:
    """What a video is, counted from its packets: headers may lie or say nothing."""

    frames: int
    fps: float
    seconds: float
    width: int
    height: int


def probe(file: InputFile, field: str) -> Video:
    """Count the frames of a video and check it against the limits, without decoding.

    Raises:
        KomaError: ``invalid_media``, ``unsupported_media`` or ``too_large``, naming ``field``, value and
        bound.
    """
    with _opened(file, field) as (container, stream):
        _check_size(stream, field)
        announced = _announced_seconds(container, stream)
        _at_most(announced, limits.MAX_VIDEO_SECONDS, "seconds", field)
        times = _packet_times(container, stream, field)
        promised, rate = stream.frames, float(stream.average_rate or 0)
        width, height = stream.width, stream.height
    seconds = max(announced, max(times, default=0.0) - min(times, default=0.0))
    _at_most(seconds, limits.MAX_VIDEO_SECONDS, "seconds", field)
    if len(times) < max(promised, 1):
        raise KomaError(
            "invalid_media",
            f"{field}: truncated, {len(times)} of {promised or 'at least 1'} frames are there",
            field=field,
            value=len(times),
            bound=max(promised, 1),
        )
    fps = rate or (len(times) / seconds if seconds else 1.0)
    return Video(len(times), fps, seconds or len(times) / fps, width, height)


def frames(file: InputFile, indices: Sequence[int], field: str) -> npt.NDArray[np.uint8]:
    """Decode the frames at ``indices`` (ascending): [n, height, width, 3] of RGB bytes, upright.

    Longest edges above ``MAX_FRAME_EDGE`` are shrunk to it, so that memory stays bounded by the number of
    frames. In long videos the decoder leaps from key frame to key frame, so that time is bounded by it too.

    Raises:
        KomaError: ``invalid_media`` where one of them cannot be decoded.
    """
    with _opened(file, field) as (container, stream):
        if stream.width * stream.height >= LARGE_FRAME:
            stream.thread_type = "AUTO"
        taken = _in_order if indices[-1] < LONG_VIDEO else _by_leaps
        reformatter = VideoReformatter()  # one for all frames: it keeps what it has prepared for their size
        found = [_pixels(frame, reformatter) for frame in taken(container, stream, indices)]
    if len(found) < len(indices):
        raise KomaError(
            "invalid_media",
            f"{field}: only {len(found)} of {len(indices)} sampled frames could be decoded",
            field=field,
            value=len(found),
            bound=len(indices),
        )
    return np.stack(found)


def _in_order(container: Any, stream: Any, indices: Sequence[int]) -> Iterator[Any]:
    """The frames at ``indices``, by decoding everything up to the last of them."""
    wanted = set(indices)
    for number, frame in enumerate(_beating(container.decode(stream))):
        if number in wanted:
            yield frame
        if number >= indices[-1]:
            return


def _by_leaps(container: Any, stream: Any, indices: Sequence[int]) -> Iterator[Any]:
    """The frames at ``indices``, each decoded from the last key frame before it; may yield fewer."""
    read = _beating(container.demux(stream))
    packets = [packet for packet in read if packet.size and packet.pts is not None]
    stamps = sorted(packet.pts for packet in packets)
    starts = sorted(packet.pts for packet in packets if packet.is_keyframe) or stamps[:1]
    reached: int | None = None
    decoded: Iterator[Any] = iter(())
    for stamp in (stamps[index] for index in indices if index < len(stamps)):
        start = starts[max(0, bisect_right(starts, stamp) - 1)]
        if reached is None or start > reached:
            container.seek(start, stream=stream)
            decoded = _beating(container.decode(stream))
        frame = next((frame for frame in decoded if frame.pts is not None and frame.pts >= stamp), None)
        if frame is None:
            return
        reached = frame.pts
        yield frame


def _beating(items: Iterator[Any]) -> Iterator[Any]:
    """The same packets or frames, with a beat for each."""
    for item in items:
        beat()
        yield item


@contextmanager
def _opened(file: InputFile, field: str) -> Iterator[tuple[Any, Any]]:
    """The container and its video stream; errors of the decoder become ``invalid_media``."""
    kind = sniff.check(file, field, sniff.VIDEO_TYPES, limits.MAX_VIDEO_BYTES)
    try:
        with av.open(str(file.path), format=_DEMUXERS[kind]) as container:
            if not container.streams.video:
                raise KomaError("invalid_media", f"{field}: has no video track", field=field, value=kind)
            yield container, container.streams.video[0]
    except (av.FFmpegError, ValueError, EOFError) as error:
        # The whole text of an FFmpegError names the file, which is a path of this machine.
        reason = getattr(error, "strerror", None) or error
        raise KomaError(
            "invalid_media", f"{field}: truncated or damaged: {reason}", field=field, value=kind
        ) from error


def _check_size(stream: Any, field: str) -> None:
    if not stream.width or not stream.height:
        raise KomaError("invalid_media", f"{field}: the size of its frames is unknown", field=field)
    _at_most(stream.width * stream.height, limits.MAX_VIDEO_PIXELS, "pixels a frame", field)


def _announced_seconds(container: Any, stream: Any) -> float:
    whole = (container.duration or 0) / av.time_base
    own = float(stream.duration * stream.time_base) if stream.duration else 0.0
    return own or whole


def _packet_times(container: Any, stream: Any, field: str) -> list[float]:
    """Presentation times in seconds of all frames; stops with an error beyond the limit."""
    times: list[float] = []
    for packet in _beating(container.demux(stream)):
        if packet.size == 0:
            continue
        stamp = packet.pts if packet.pts is not None else packet.dts
        times.append(float(stamp * stream.time_base) if stamp is not None else 0.0)
        _at_most(len(times), limits.MAX_VIDEO_FRAMES, "frames", field)
    return times


def _at_most(value: float, bound: float, unit: str, field: str) -> None:
    if value > bound:
        shown = round(value, 3)
        raise KomaError(
            "too_large",
            f"{field}: {shown:g} {unit}, at most {bound:g}",
            field=field,
            value=shown,
            bound=bound,
        )


def _pixels(frame: Any, reformatter: VideoReformatter) -> npt.NDArray[np.uint8]:
    scale = min(1.0, limits.MAX_FRAME_EDGE / max(frame.width, frame.height))
    size = (max(1, round(frame.width * scale)), max(1, round(frame.height * scale)))
    pixels = reformatter.reformat(frame, *size, format="rgb24").to_ndarray()
    quarter_turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, k=quarter_turns))
