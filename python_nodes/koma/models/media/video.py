"""Reads videos within limits: first when which frame is shown, then only the frames that are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from koma.errors import KomaError
from koma.models.media import geometry, limits, plan, timeline
from koma.models.media.colour import Colours
from koma.models.media.decoding import Decoder, Shown, Unreachable
from koma.models.media.plan import Entry, Run
from koma.models.media.timeline import Timeline
from koma.models.media.track import Track, opened
from koma.runtime import pulse
from koma.runtime.runner import InputFile

LONG_VIDEO = 300
"""Frames from which on the decoder leaps to key frames; shorter clips are decoded as players do it."""
_VP8_SHOWN = 0x10
"""Bit of the first byte of a VP8 frame: it is shown (RFC 6386, 9.1)."""
_PROGRESSIVE = (0, 1)
"""Orders of fields of which FFmpeg knows nothing, or that there are none."""


@dataclass(frozen=True)
class Video:
    """What a video is, read from its packets: headers may lie or say nothing."""

    timeline: Timeline
    width: int
    height: int
    entries: tuple[Entry, ...]
    """Its packets, as they are stored"""

    @property
    def frames(self) -> int:
        """Frames that players show."""
        return len(self.timeline.times)

    @property
    def fps(self) -> float:
        """Frames a second; the mean where the rate varies."""
        return self.timeline.rate

    @property
    def seconds(self) -> float:
        """How long the frames are shown altogether."""
        return self.timeline.seconds


def probe(file: InputFile, field: str) -> Video:
    """Read when each frame of a video is shown and check it against the limits, without decoding.

    Raises:
        KomaError: ``invalid_media``, ``unsupported_media`` or ``too_large``, naming ``field``, value and
        bound.
    """
    with opened(file, field) as track:
        stream = track.stream
        if not stream.width or not stream.height:
            raise KomaError("invalid_media", f"{field}: the size of its frames is unknown", field=field)
        limits.at_most(stream.width * stream.height, limits.MAX_VIDEO_PIXELS, "pixels a frame", field)
        entries, last_shown_for = _read_packets(track, field)
        when = _timeline(track, plan.stamps(entries), last_shown_for)
        limits.at_most(when.seconds, limits.MAX_VIDEO_SECONDS, "seconds", field)
        return Video(when, stream.width, stream.height, tuple(entries))


def frames(
    file: InputFile, indices: Sequence[int], field: str, found: Video | None = None
) -> npt.NDArray[np.uint8]:
    """Decode the frames at ``indices`` (ascending): [n, height, width, 3] of RGB bytes, as players show them.

    All have the size and orientation of the first one, in square pixels. Longest edges above
    ``MAX_FRAME_EDGE`` are shrunk to it, so that memory stays bounded by the number of frames. In long videos
    the decoder leaps from key frame to key frame, so that time is bounded by it too.

    Args:
        file: the video.
        indices: in the order in which frames are shown.
        field: names the input in errors.
        found: what :func:`probe` told of it.

    Raises:
        KomaError: ``invalid_media`` where one of them cannot be decoded; ``too_large`` where too much has to
            be decoded for them.
    """
    found = found or probe(file, field)
    stamps = plan.stamps(found.entries)
    wanted = [stamps[index] for index in indices if index < len(stamps)]
    pictures = _pictures(file, found, wanted, leap=indices[-1] >= LONG_VIDEO, field=field)
    taken = [pictures[stamp] for stamp in wanted if stamp in pictures]
    if len(taken) < len(indices):
        raise KomaError(
            "invalid_media",
            f"{field}: only {len(taken)} of {len(indices)} sampled frames could be decoded",
            field=field,
            value=len(taken),
            bound=len(indices),
        )
    return np.stack(taken)


def _read_packets(track: Track, field: str) -> tuple[list[Entry], int]:
    """The table of packets, and the ticks that the last packet shown is told to last; 0 if unknown."""
    stream = track.stream
    entries: list[Entry] = []
    durations: dict[int, int] = {}
    for packet in track.container.demux(stream):
        pulse.beat()
        stamp = packet.pts if packet.pts is not None else packet.dts
        if not packet.size or (packet.is_corrupt and track.promised):
            continue
        hidden = packet.is_discard or (stream.codec.name == "vp8" and not memoryview(packet)[0] & _VP8_SHOWN)
        entries.append(Entry(stamp or 0, packet.is_keyframe, not hidden))
        durations[stamp or 0] = packet.duration or 0
        limits.at_most(len(entries), limits.MAX_VIDEO_FRAMES, "frames", field)
    shown = plan.stamps(entries)
    least = max(track.promised, 1)
    if len(entries) < least or not shown:
        raise KomaError(
            "invalid_media",
            f"{field}: truncated, {len(entries)} of {track.promised or 'at least 1'} frames are there",
            field=field,
            value=len(entries),
            bound=least,
        )
    return entries, durations[shown[-1]]


def _timeline(track: Track, stamps: Sequence[int], last_shown_for: int) -> Timeline:
    stream, tick = track.stream, track.stream.time_base
    start = track.container.start_time
    first = float(stamps[0] * tick)
    clock = first if start is None else min(first, start / av.time_base)
    rates = [float(rate) for rate in (stream.average_rate, stream.base_rate) if rate]
    seconds = [float(stamp * tick) for stamp in stamps]
    rest = _end(track) - seconds[-1]
    return timeline.of(seconds, rest if rest > 0 else float(last_shown_for * tick), rates, float(tick), clock)


def _end(track: Track) -> float:
    """Seconds at which the header says that the track ends; 0 where it says nothing of this track alone."""
    stream, container = track.stream, track.container
    if stream.duration:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
    if container.duration and len(container.streams) == 1:
        return float(((container.start_time or 0) + container.duration) / av.time_base)
    return 0.0


def _pictures(
    file: InputFile, found: Video, wanted: Sequence[int], leap: bool, field: str
) -> dict[int, npt.NDArray[np.uint8]]:
    """The pictures at the stamps ``wanted``, by stamp."""
    if leap:
        try:
            return _decoded(file, found, wanted, plan.by_leaps, field)
        except Unreachable:
            pass  # its key frames promise more than they hold, as where pictures are refreshed bit by bit
    return _decoded(file, found, wanted, plan.in_order, field)


def _decoded(
    file: InputFile, found: Video, wanted: Sequence[int], way: Any, field: str
) -> dict[int, npt.NDArray[np.uint8]]:
    with opened(file, field) as track:
        stream = track.stream
        chosen = way if track.leaps else plan.in_order
        runs: list[Run] = chosen(found.entries, _with_needed(found, wanted, stream.field_order))
        size = stream.width * stream.height
        work = size * sum(run.packets for run in runs)
        limits.at_most(work, limits.MAX_DECODED_PIXELS, "pixels to decode", field)
        lay = _Layout(stream.sample_aspect_ratio)
        taken = set(wanted)
        shown = Decoder(track, field).shown(runs)
        return {one.stamp: lay.out(one) for one in shown if one.stamp in taken}


def _with_needed(found: Video, wanted: Sequence[int], field_order: int) -> list[int]:
    """``wanted`` and, in interlaced videos, the frames around them, which deinterlacing looks at."""
    if field_order in _PROGRESSIVE:
        return list(wanted)
    stamps = plan.stamps(found.entries)
    places = {stamp: place for place, stamp in enumerate(stamps)}
    around = {places[stamp] + step for stamp in wanted for step in (-1, 0, 1)}
    return [stamps[place] for place in sorted(around) if 0 <= place < len(stamps)]


class _Layout:
    """Lays frames out as the first one is shown."""

    def __init__(self, pixel_aspect: Any) -> None:
        self._aspect = pixel_aspect
        self._colours = Colours()
        self._first: tuple[tuple[int, int], geometry.Orientation] | None = None

    def out(self, shown: Shown) -> npt.NDArray[np.uint8]:
        frame = shown.frame
        if self._first is None:
            matrix = frame.side_data.get("DISPLAYMATRIX")
            self._first = (
                geometry.shown_size(frame.width, frame.height, self._aspect),
                geometry.orientation(bytes(matrix) if matrix is not None else None),
            )
        size, orientation = self._first
        return orientation.apply(self._colours.rgb(frame, size, shown.alpha))
