"""Pixels -> PNG, MP4 and preview bytes."""

from __future__ import annotations

import io
import uuid
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

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
_BT709 = 1
_LIMITED_RANGE = 1


def fresh_path(folder: Path, suffix: str) -> Path:
    """A name in ``folder`` that nothing else has."""
    return folder / f"{uuid.uuid4().hex}{suffix}"


def write_png(folder: Path, picture: Pixels) -> Path:
    """Write a picture as PNG under a fresh name in ``folder``."""
    path = fresh_path(folder, ".png")
    Image.fromarray(picture).save(path, format="PNG")
    return path


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
    path = fresh_path(folder, ".mp4")
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options=X264_OPTIONS)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED_RANGE
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709")))
        container.mux(stream.encode())
    return path
