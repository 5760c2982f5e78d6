"""Pixels -> PNG, JPEG, WebP, MP4 and preview bytes."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

from koma.provenance import stamp
from koma.runtime.pulse import beat
from koma.runtime.runner import Preview

Pixels = npt.NDArray[np.uint8]
"""[height, width, 3] (a picture) or [frames, height, width, 3] (a video), RGB."""

PREVIEW_SIDE = 320
"""Longest side of a preview in pixels: enough to judge a picture by, and a few kilobytes."""
PREVIEW_QUALITY = 85
CONSTANT_RATE_FACTOR = "18"
"""x264's quality scale; 18 is visually lossless by its own guide."""
X264_OPTIONS = {"crf": CONSTANT_RATE_FACTOR, "x264-params": "mbtree=0"}
"""x264's macroblock tree reads memory that was never written (seen with frames of 64 pixels and
MALLOC_PERTURB_): the same frames then give other bytes from run to run. Short clips lose next to nothing
without it."""


@dataclass(frozen=True)
class PictureFormat:
    """How a picture is written: Pillow's name of the format, the end of the file's name, Pillow's options."""

    name: str
    suffix: str
    options: Mapping[str, Any]


PICTURES: Mapping[str, PictureFormat] = {
    "image/png": PictureFormat("PNG", ".png", {}),
    "image/jpeg": PictureFormat("JPEG", ".jpg", {"quality": 92, "subsampling": 0}),
    "image/webp": PictureFormat("WEBP", ".webp", {"quality": 92}),
}
"""The media types that pictures are written as. At these qualities the invisible mark stays readable."""
_BT709 = 1
_LIMITED_RANGE = 1


def fresh_path(folder: Path, suffix: str) -> Path:
    """A name in ``folder`` that nothing else has."""
    return folder / f"{uuid.uuid4().hex}{suffix}"


@contextmanager
def _written(folder: Path, suffix: str) -> Iterator[Path]:
    """A fresh path for a file that is written inside; the file is deleted where that ends with an error."""
    path = fresh_path(folder, suffix)
    try:
        yield path
    except BaseException:
        path.unlink(missing_ok=True)
        raise


class _Beating(io.BufferedWriter):
    """A file that beats with every piece that is written, of 64 KiB or one row of a PNG."""

    def write(self, data: Any) -> int:
        """Write a piece."""
        beat()
        return super().write(data)


def write_png(folder: Path, picture: Pixels) -> Path:
    """Write a picture as PNG under a fresh name in ``folder``."""
    return write_picture(folder, picture, "image/png")


def write_picture(folder: Path, picture: Pixels, media_type: str) -> Path:
    """Write a picture under a fresh name in ``folder``; ``media_type`` is a key of :data:`PICTURES`."""
    kind = PICTURES[media_type]
    with _written(folder, kind.suffix) as path, _Beating(io.FileIO(path, "w")) as file:
        marked = stamp.begin([picture], path)(picture)
        Image.fromarray(marked).save(file, format=kind.name, **kind.options)
    return path


def write_pictures(folder: Path, pictures: Sequence[Pixels], media_type: str) -> list[Path]:
    """Write pictures under fresh names in ``folder``: all of them, or none where that fails."""
    paths: list[Path] = []
    try:
        for picture in pictures:
            paths.append(write_picture(folder, picture, media_type))
    except BaseException:
        for path in paths:
            path.unlink(missing_ok=True)
        raise
    return paths


def preview(picture: Pixels) -> Preview:
    """Encode a picture as a small JPEG with full colour resolution."""
    image = Image.fromarray(picture)
    image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=PREVIEW_QUALITY, subsampling=0)
    return Preview("image/jpeg", buffer.getvalue(), *image.size)


def write_mp4(folder: Path, frames: Pixels, fps: int) -> Path:
    """Write a video of even width and height as MP4 that browsers play while it loads.

    H.264 with 4:2:0 colour, tagged BT.709 (browsers guess otherwise), index before the data.
    """
    with (
        _written(folder, ".mp4") as path,
        av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container,
    ):
        stream = container.add_stream("libx264", rate=Fraction(fps), options=X264_OPTIONS)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED_RANGE
        mark = stamp.begin(frames, path)
        for pixels in frames:
            beat()
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(mark(pixels)), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709")))
        # The encoder holds some tens of frames back; they come one at a time.
        for packet in context.encode_lazy(None):
            beat()
            packet.stream = stream
            container.mux(packet)
    return path
