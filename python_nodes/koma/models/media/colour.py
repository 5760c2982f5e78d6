"""The colours of a decoded frame -> RGB bytes as a screen of standard range shows them."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter
from PIL import Image

from koma.models.media import tone

_RGB, _BT709, _UNSPECIFIED, _RESERVED, _BT601, _BT2020, _BT2020_CONSTANT = 0, 1, 2, 3, 5, 9, 10
_HD_LINES = 720

Pixels = npt.NDArray[np.uint8]
"""[height, width, 3]"""


class Colours:
    """Turns the frames of one video into RGB; keeps what it has prepared for their size and format."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._shrinker = VideoReformatter()

    def rgb(self, frame: Any, size: tuple[int, int], alpha: npt.NDArray[np.uint8] | None = None) -> Pixels:
        """``frame`` at ``size`` (width, height), over white where it is transparent.

        Args:
            frame: as the decoder gives it.
            size: in square pixels, before it is turned upright.
            alpha: [height, width], where transparency is stored beside the frames.
        """
        if alpha is not None or any(component.is_alpha for component in frame.format.components):
            return self._over_white(frame, size, alpha)
        curve = tone.CURVES.get(frame.color_trc)
        if curve is not None:
            deep = self._converted(frame, size, "rgb48le")
            return tone.mapped(deep, curve, tone.peak(frame.side_data))
        plain: Pixels = self._converted(frame, size, "rgb24")
        return plain

    def _converted(self, frame: Any, size: tuple[int, int], layout: str) -> Any:
        colour_range = frame.color_range or None
        converted = self._reformatter.reformat(
            frame,
            *size,
            format=layout,
            src_colorspace=_matrix(frame),
            src_color_range=colour_range,
        )
        return converted.to_ndarray()

    def _over_white(self, frame: Any, size: tuple[int, int], alpha: npt.NDArray[np.uint8] | None) -> Pixels:
        """Blend at full size: shrinking first would mix in the colours of what is transparent."""
        layered = self._converted(frame, (frame.width, frame.height), "rgba")
        if alpha is not None:
            layered[..., 3] = np.asarray(Image.fromarray(alpha).resize((frame.width, frame.height)))
        white = Image.new("RGBA", (frame.width, frame.height), "white")
        white.alpha_composite(Image.fromarray(layered, "RGBA"))
        flat = av.VideoFrame.from_ndarray(np.asarray(white.convert("RGB")), format="rgb24")
        shrunk: Any = self._shrinker.reformat(flat, *size, format="rgb24").to_ndarray()
        return np.asarray(shrunk, dtype=np.uint8)


def _matrix(frame: Any) -> int | None:
    """Which standard made luma and chroma of red, green and blue.

    Where the file does not say, frames of 720 lines and more are BT.709 and smaller ones BT.601, as in
    Chromium; FFmpeg's tools take BT.601 for all of them.
    """
    told = frame.colorspace
    if frame.format.is_rgb or told == _RGB:
        return None
    if told in (_UNSPECIFIED, _RESERVED):
        return _BT709 if frame.height >= _HD_LINES else _BT601
    return _BT2020 if told == _BT2020_CONSTANT else int(told)
