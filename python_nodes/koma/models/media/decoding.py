"""Decodes runs of packets and gives the frames that are wanted, deinterlaced."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from koma.errors import KomaError
from koma.models.media import limits
from koma.models.media.plan import Run
from koma.models.media.track import Track
from koma.runtime import pulse

LARGE_FRAME = 1280 * 720
"""Pixels of a frame from which on decoding several at a time is worth starting threads for each clip."""
ALPHA = "matroska_block_additional"
"""Where WebM keeps the transparency of a packet: 8 bytes that say so, then a packet of the same codec."""


class Unreachable(Exception):
    """A wanted frame cannot be decoded from the key frame before it."""


@dataclass(frozen=True)
class Shown:
    """A wanted frame."""

    stamp: int
    """The presentation stamp that was asked for"""
    frame: Any
    alpha: npt.NDArray[np.uint8] | None
    """[height, width], where transparency is stored beside the frames"""


@dataclass
class Decoder:
    """Feeds the packets of runs to the decoder of a track."""

    track: Track
    name: str
    """The input field, for errors"""
    _pixels: int = 0
    _alphas: dict[int, Any] = field(default_factory=dict)
    _alpha_decoder: Any = None

    def shown(self, runs: Sequence[Run]) -> Iterator[Shown]:
        """The wanted frames of ``runs``, which are ascending and apart.

        Raises:
            Unreachable: one of them cannot be decoded by beginning where its run begins.
        """
        stream = self.track.stream
        if stream.width * stream.height >= LARGE_FRAME:
            stream.thread_type = "AUTO"
        packets = (packet for packet in self.track.container.demux(stream) if packet.size)
        number = 0
        for run in runs:
            if number:
                stream.codec_context.flush_buffers()
                self._alphas, self._alpha_decoder = {}, None
            for _ in range(run.start - number):
                pulse.beat()
                next(packets, None)
            number = run.last + 1
            fed = (packet for _, packet in zip(range(run.packets), packets, strict=False))
            yield from self._wanted(run, self._frames(fed))

    def _wanted(self, run: Run, frames: Iterator[Any]) -> Iterator[Shown]:
        """Take the frames of ``run``: where the decoder left one out, the one that is shown in its place."""
        missing = sorted(run.wanted)
        for before, frame, after in _with_neighbours(frames):
            first = before is None
            while missing and (after is None or missing[0] < after.pts):
                stamp = missing[0]
                if run.start and (frame.is_corrupt or stamp < frame.pts):
                    raise Unreachable
                if stamp > frame.pts and after is None:
                    break
                if stamp < frame.pts and not first:
                    break
                missing.pop(0)
                yield Shown(stamp, _deinterlaced(before, frame, after), self._alpha(frame))
            if not missing:
                return
        if run.start:
            raise Unreachable

    def _frames(self, packets: Iterator[Any]) -> Iterator[Any]:
        """All frames of ``packets``, each held to the bounds."""
        for packet in packets:
            pulse.beat()
            if packet.has_sidedata(ALPHA):
                self._decode_alpha(packet)
            yield from self._checked(self._decoded(packet))
        yield from self._checked(self._decoded(None))

    def _decoded(self, packet: Any) -> list[Any]:
        """Decode a packet, or what is left in the decoder for None."""
        context = self.track.stream.codec_context
        try:
            frames: list[Any] = context.decode(packet)
        except av.FFmpegError as error:
            # The decoder forgets the size of a frame that ``max_pixels`` does not allow.
            if not context.width or error.errno == errno.ERANGE:
                raise self._too_large() from error
            raise
        return [frame for frame in frames if frame.pts is not None]

    def _checked(self, frames: list[Any]) -> Iterator[Any]:
        for frame in frames:
            pulse.beat()
            pixels = frame.width * frame.height
            limits.at_most(pixels, limits.MAX_VIDEO_PIXELS, "pixels a frame", self.name)
            self._pixels += pixels
            limits.at_most(self._pixels, limits.MAX_DECODED_PIXELS, "pixels to decode", self.name)
            yield frame

    def _too_large(self) -> KomaError:
        bound = limits.MAX_VIDEO_PIXELS
        most = limits.megapixels(bound)
        return KomaError(
            "too_large",
            f"{self.name}: holds larger frames than its header says, more than {most} megapixels a frame",
            field=self.name,
            bound=bound,
        )

    def _decode_alpha(self, packet: Any) -> None:
        if self._alpha_decoder is None:
            context = self.track.stream.codec_context
            self._alpha_decoder = av.CodecContext.create(context.codec.name, "r")
            self._alpha_decoder.options = {"max_pixels": str(limits.MAX_VIDEO_PIXELS)}
        beside = av.Packet(bytes(packet.get_sidedata(ALPHA))[8:])
        beside.pts = packet.pts
        for frame in self._alpha_decoder.decode(beside):
            self._alphas[packet.pts] = frame

    def _alpha(self, frame: Any) -> npt.NDArray[np.uint8] | None:
        found = self._alphas.pop(frame.pts, None)
        self._alphas = {stamp: kept for stamp, kept in self._alphas.items() if stamp > frame.pts}
        if found is None:
            return None
        luma = found.planes[0]
        rows = np.frombuffer(luma, np.uint8).reshape(-1, luma.line_size)
        return np.ascontiguousarray(rows[: found.height, : found.width])


def _with_neighbours(frames: Iterator[Any]) -> Iterator[tuple[Any, Any, Any]]:
    """Each frame between the one before it and the one after it."""
    before = current = None
    for frame in frames:
        if current is not None:
            yield before, current, frame
        before, current = current, frame
    if current is not None:
        yield before, current, None


def _deinterlaced(before: Any, frame: Any, after: Any) -> Any:
    """Whole lines from the two half pictures of an interlaced frame; other frames stay as they are."""
    if not frame.interlaced_frame:
        return frame
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    graph.link_nodes(source, graph.add("bwdif", "mode=send_frame"), graph.add("buffersink")).configure()
    alike = [one for one in (before, frame, after) if _same_shape(one, frame)]
    for one in alike:
        graph.vpush(one)
    graph.vpush(None)
    woven = [graph.vpull() for _ in alike]
    return woven[alike.index(frame)]


def _same_shape(one: Any, frame: Any) -> bool:
    return one is not None and (one.width, one.height, one.format.name) == (
        frame.width,
        frame.height,
        frame.format.name,
    )
