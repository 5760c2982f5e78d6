"""Where a mark may lie in a picture that somebody cut, resized or brightened: the guesses of the detector.

Each guess is one row of sums (:data:`koma.provenance.mark.evidence.Sums`). The guesses are made in groups,
the cheap ones first, never more than ``evidence.MAX_GUESSES`` in all: each guess costs a little certainty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from koma.provenance.mark import blocks
from koma.provenance.mark.blocks import Luma
from koma.provenance.mark.embed import STEP
from koma.provenance.mark.evidence import Sums
from koma.provenance.mark.pattern import POSITIONS, TILE

GAINS = np.exp(np.linspace(np.log(0.74), np.log(1.36), 62))
"""Factors of contrast and brightness, one per cent apart. They stretch the lattice."""
SMALLEST, LARGEST = 0.45, 2.1
"""Factors of a resize that are undone."""
BLURS = np.linspace(0.4, 1.6, 13)
"""Standard deviations of a Gaussian blur in pixels."""
MAX_SIDE = 2048
"""Longest side of a picture as it may have been before a resize."""
LARGEST_WINDOW = 1024
"""Pixels of a side in which shifts are tried."""
MAX_SIZES = 72
_PIXEL_SHIFTS = [(row, column) for row in range(blocks.SIDE) for column in range(blocks.SIDE)]
_SQUARED_FREQUENCIES = np.array([r**2 + c**2 for r, c in blocks.FREQUENCIES]) * (np.pi / blocks.SIDE) ** 2
_PLAIN = 6.0
"""Levels by which the ground of a screenshot may vary."""
_SIDES = (8, 16, 32, 64, 128)


def in_place(frames: Sequence[Luma]) -> Iterator[Sums]:
    """The tile begins at the first pixel and the contrast is what it was."""
    yield _summed([_coefficients(frame, 1.0) for frame in frames]).reshape(1, -1)


def stretched(frames: Sequence[Luma]) -> Iterator[Sums]:
    """As ``in_place``, with another contrast."""
    found = [blocks.coefficients(frame) for frame in frames]
    yield np.stack([_summed([_turned(each, gain) for each in found]).ravel() for gain in GAINS])


def shifted(frames: Sequence[Luma]) -> Iterator[Sums]:
    """The picture was cut, or has a border: the tile begins at any pixel."""
    inside = [frame[_window(frame.shape)] for frame in frames]
    for row, column in _PIXEL_SHIFTS:
        cut = [frame[row:, column:] for frame in inside]
        tile = _summed([_coefficients(frame, 1.0) for frame in cut])
        rolled = [
            np.roll(tile, (down, right), (0, 1)).ravel() for down in range(TILE) for right in range(TILE)
        ]
        yield np.stack(rolled)


def blurred(frames: Sequence[Luma]) -> Iterator[Sums]:
    """As ``in_place``, behind a blur, which takes more from the higher of the carriers."""
    found = [blocks.coefficients(frame) for frame in frames]
    left = [np.exp(-(sigma**2) * _SQUARED_FREQUENCIES / 2).astype(np.float32) for sigma in BLURS]
    yield np.stack([_summed([_turned(each / share, 1.0) for each in found]).ravel() for share in left])


def trimmed(frames: Sequence[Luma]) -> Iterator[Sums]:
    """The picture lies on a plain ground, as in a screenshot: without it, in place and shifted."""
    box = _box(frames[0])
    if box is not None:
        inside = [frame[box] for frame in frames]
        yield from in_place(inside)
        yield from shifted(inside)


def resized(frames: Sequence[Luma]) -> Iterator[Sums]:
    """The picture was resized as a whole: its sides were multiples of 8 before."""
    for size in _sizes(frames[0].shape):
        restored = [_resize(frame, size) for frame in frames]
        yield _summed([_coefficients(frame, 1.0) for frame in restored]).reshape(1, -1)


def _window(shape: tuple[int, ...]) -> tuple[slice, slice]:
    """The middle of a large picture: more of it would take long and tell no more."""
    begins = [max(0, side - LARGEST_WINDOW) // 2 for side in shape[:2]]
    return slice(begins[0], begins[0] + LARGEST_WINDOW), slice(begins[1], begins[1] + LARGEST_WINDOW)


def _box(frame: Luma) -> tuple[slice, slice] | None:
    """Where the picture lies on a plain ground of the colour of its first corner; None without such."""
    differs = np.abs(frame - frame[0, 0]) > _PLAIN
    rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
    if rows.size < blocks.SIDE or columns.size < blocks.SIDE:
        return None
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    return None if frame[box].shape == frame.shape else box


def _sizes(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Widths and heights that the picture may have had: multiples of 8, or of more where these are many."""
    height, width = shape
    longest = max(height, width)
    first, last = SMALLEST * longest, min(LARGEST * longest, MAX_SIDE)
    side = next(side for side in _SIDES if (last - first) / side <= MAX_SIZES or side == _SIDES[-1])
    lengths = [length for length in range(side, int(last) + 1, side) if length >= first]
    sizes = ((_beside(width, length, longest), _beside(height, length, longest)) for length in lengths)
    return [size for size in sizes if size != (width, height) and min(size) >= blocks.SIDE]


def _beside(side: int, length: int, longest: int) -> int:
    return round(side * length / longest / blocks.SIDE) * blocks.SIDE


def _resize(frame: Luma, size: tuple[int, int]) -> Luma:
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))


def _coefficients(frame: Luma, gain: float) -> npt.NDArray[np.complex64]:
    return _turned(blocks.coefficients(frame), gain)


def _turned(found: blocks.Coefficients, gain: float) -> npt.NDArray[np.complex64]:
    angles = found * np.float32(2 * np.pi / (STEP * gain))
    return np.asarray(np.cos(angles) + 1j * np.sin(angles), np.complex64)


def _summed(pictures: Sequence[npt.NDArray[np.complex64]]) -> npt.NDArray[np.complex128]:
    """Add up what lies at the same position of the tile, over all tiles and pictures."""
    tile = np.zeros((TILE, TILE, blocks.CARRIERS), np.complex128)
    for picture in pictures:
        rows, columns = picture.shape[:2]
        padded = np.pad(picture, ((0, -rows % TILE), (0, -columns % TILE), (0, 0)))
        split = padded.reshape(padded.shape[0] // TILE, TILE, padded.shape[1] // TILE, TILE, blocks.CARRIERS)
        tile += split.sum(axis=(0, 2))
    return tile


assert POSITIONS == TILE * TILE * blocks.CARRIERS
