"""Pixels ⇄ the coefficients that carry the mark: six low frequencies of each block of 8 by 8 of the luma."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""[height, width, 3], RGB."""
Luma = npt.NDArray[np.float32]
"""[height, width], 0 to 255."""
Coefficients = npt.NDArray[np.float32]
"""[rows of blocks, columns of blocks, CARRIERS]"""

SIDE = 8
FREQUENCIES = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2))
"""Low enough to outlive compression and a resize to half, and none of them the brightness of the block."""
CARRIERS = len(FREQUENCIES)
_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)


def _basis() -> npt.NDArray[np.float32]:
    """[pixels of a block, CARRIERS], orthonormal: the cosines of a JPEG."""
    places = np.arange(SIDE)
    waves = np.stack([np.cos(np.pi * (2 * places + 1) * wave / (2 * SIDE)) for wave in range(SIDE)])
    waves *= np.sqrt(2 / SIDE)
    waves[0] /= np.sqrt(2)
    carriers = [np.outer(waves[row], waves[column]).ravel() for row, column in FREQUENCIES]
    return np.stack(carriers, axis=1).astype(np.float32)


BASIS = _basis()


def luma(pixels: Pixels) -> Luma:
    """Return the brightness of each pixel."""
    return pixels.astype(np.float32) @ _WEIGHTS


def coefficients(brightness: Luma) -> Coefficients:
    """Return the coefficients of all whole blocks."""
    rows, columns = brightness.shape[0] // SIDE, brightness.shape[1] // SIDE
    whole = brightness[: rows * SIDE, : columns * SIDE]
    split = whole.reshape(rows, SIDE, columns, SIDE).swapaxes(1, 2).reshape(rows, columns, SIDE * SIDE)
    return split @ BASIS


def change(differences: Coefficients, shape: tuple[int, int]) -> Luma:
    """Return the change of the luma, of ``shape``, that changes the coefficients by ``differences``."""
    rows, columns = differences.shape[:2]
    blocks = (differences @ BASIS.T).reshape(rows, columns, SIDE, SIDE).swapaxes(1, 2)
    changed = np.zeros(shape, np.float32)
    changed[: rows * SIDE, : columns * SIDE] = blocks.reshape(rows * SIDE, columns * SIDE)
    return changed
