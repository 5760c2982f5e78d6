"""Media for tests: drawn, encoded, cut off, too large."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, PngImagePlugin


def write_clip(path: Path, frames: int = 17, fps: int = 8, side: int = 64) -> Path:
    """Write an MP4 in which a square moves to the right."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        for index in range(frames):
            picture = np.full((side, side, 3), 200, np.uint8)
            picture[20:40, index : index + 20] = (220, 30, 30)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_long_clip(path: Path, seconds: int) -> Path:
    """Write an MP4 of few frames that lasts ``seconds``."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1)
        for time in (0, seconds // 2, seconds):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def png(width: int, height: int) -> bytes:
    """Return a PNG of one colour."""
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "PNG", pnginfo=PngImagePlugin.PngInfo())
    return file.getvalue()
