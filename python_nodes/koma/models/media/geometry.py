"""How the frames of a video lie on the screen: orientation, shape of a pixel, size."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from koma.models.media import limits

_NEXT_TO_NOTHING = 0.0175
"""Tangent of a degree: what ffmpeg's ``autorotate`` takes for upright."""


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways to lay a frame on the screen: first transposed, then mirrored."""

    transposed: bool = False
    mirrored: bool = False
    """Left and right change places."""
    upside_down: bool = False
    """Top and bottom change places; both flags together are half a turn."""

    def apply(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Bring [height, width, 3] upright."""
        if self.transposed:
            pixels = pixels.swapaxes(0, 1)
        vertical, horizontal = (-1 if flag else 1 for flag in (self.upside_down, self.mirrored))
        return np.ascontiguousarray(pixels[::vertical, ::horizontal])


UPRIGHT = Orientation()


def orientation(display_matrix: bytes | None) -> Orientation:
    """Read a display matrix (ISO/IEC 14496-12, 8.3.2, as FFmpeg keeps it); a broken one means upright.

    A point (x, y) of the frame is shown at (a x + c y, b x + d y). Scales are ignored, as players do; what is
    neither upright nor on its side, by more than a degree, is no orientation that players show.
    """
    if display_matrix is None or len(display_matrix) != 36:
        return UPRIGHT
    a, b, _, c, d, *_ = struct.unpack("=9i", display_matrix)
    along, across = min(abs(a), abs(d)), max(abs(b), abs(c))
    if along and across <= _NEXT_TO_NOTHING * along:
        return Orientation(False, a < 0, d < 0)
    along, across = min(abs(b), abs(c)), max(abs(a), abs(d))
    if along and across <= _NEXT_TO_NOTHING * along:
        return Orientation(True, c < 0, b < 0)
    return UPRIGHT


def shown_size(width: int, height: int, pixel_aspect: Fraction | None) -> tuple[int, int]:
    """Width and height of a frame in square pixels, shrunk to ``MAX_FRAME_EDGE``.

    Pixels that are not square grow in their longer direction, so that nothing is lost.
    """
    aspect = float(pixel_aspect) if pixel_aspect and pixel_aspect > 0 else 1.0
    wide, high = width * max(1.0, aspect), height * max(1.0, 1 / aspect)
    scale = min(1.0, limits.MAX_FRAME_EDGE / max(wide, high))
    return max(1, round(wide * scale)), max(1, round(high * scale))
