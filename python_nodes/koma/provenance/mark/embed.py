"""Writes the mark: each carrier is moved to the nearest point of its lattice that stands for its bit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from koma.provenance.mark import blocks, code
from koma.provenance.mark.blocks import Coefficients, Pixels
from koma.provenance.mark.pattern import TILE, Pattern
from koma.provenance.mark.payload import Payload

STEP = 28.0
"""Distance between two points of a lattice that stand for the same bit. A larger one withstands more and is
seen sooner: 28 moves a pixel by two and a half levels, a peak signal-to-noise ratio of 40 dB."""
PASSES = 2
"""White cannot become brighter, so it loses a part of its mark; a second pass makes up for that."""
MIN_SIDE = 32
"""Pixels of the shorter side from which a picture is marked; a smaller one has too few blocks for the id."""


class Marker:
    """Marks pictures with one payload; frames of a video are marked one by one, all alike."""

    def __init__(self, pattern: Pattern, payload: Payload) -> None:
        bits = code.encode(payload.bits())
        self._turns = (pattern.turns + bits[pattern.carried] / 2).astype(np.float32)

    def mark(self, picture: Pixels) -> Pixels:
        """Return a marked copy of ``picture``; raises ValueError where it is smaller than ``MIN_SIDE``."""
        if not fits(picture.shape[0], picture.shape[1]):
            raise ValueError(f"a picture of {picture.shape[1]} by {picture.shape[0]} pixels is too small")
        found = blocks.coefficients(blocks.luma(picture))
        wanted = self._nearest(found)
        marked, clipped = _moved(picture, wanted - found)
        for _ in range(PASSES - 1):
            if clipped:
                found = blocks.coefficients(blocks.luma(marked))
                marked, clipped = _moved(marked, wanted - found)
        return marked

    def _nearest(self, found: Coefficients) -> Coefficients:
        turns = tiled(self._turns, found.shape[0], found.shape[1])
        return np.asarray((np.rint(found / STEP - turns) + turns) * STEP, np.float32)


def _moved(picture: Pixels, differences: Coefficients) -> tuple[Pixels, bool]:
    """Change the coefficients by ``differences``; also tell whether a pixel could not follow."""
    change = np.rint(blocks.change(differences, picture.shape[:2])).astype(np.int16)
    wanted = picture + change[..., None]
    kept = np.clip(wanted, 0, 255)
    return kept.astype(np.uint8), bool((kept != wanted).any())


def fits(height: int, width: int) -> bool:
    """Whether a picture of this size is marked."""
    return min(height, width) >= MIN_SIDE


def tiled(tile: npt.NDArray[np.float32], rows: int, columns: int) -> npt.NDArray[np.float32]:
    """Repeat a tile over so many rows and columns of blocks."""
    return np.tile(tile, (-(-rows // TILE), -(-columns // TILE), 1))[:rows, :columns]
