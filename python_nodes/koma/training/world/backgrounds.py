"""The six painted backgrounds, drawn by formula and smoothed by drawing them larger than needed."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Colour = tuple[int, int, int]
OVERSAMPLING = 4


@lru_cache(maxsize=8)
def paint_backgrounds(size: int) -> Field:
    """Return all backgrounds in catalogue order as float32 `[6, 3, size, size]` in [0, 255]."""
    side = size * OVERSAMPLING
    axis: Field = ((np.arange(side) + 0.5) / side).astype(np.float32)
    x, y = (np.asarray(grid, np.float32) for grid in np.meshgrid(axis, axis))
    pictures = np.stack([painter(x, y) for painter in _PAINTERS])
    blocks = pictures.reshape(len(_PAINTERS), 3, size, OVERSAMPLING, size, OVERSAMPLING)
    return np.ascontiguousarray(blocks.mean((3, 5)), np.float32)


def _blend(amount: Field, low: Field | Colour, high: Field | Colour) -> Field:
    """Mix two colours or pictures `[3, H, W]`; `amount` 0 gives `low`, 1 gives `high`."""
    low, high = (
        np.asarray(c, np.float32).reshape(3, *((1, 1) if np.ndim(c) == 1 else np.shape(c)[1:]))
        for c in (low, high)
    )
    amount = np.clip(amount, 0, 1)
    return np.asarray(low * (1 - amount) + high * amount, np.float32)


def _disc(x: Field, y: Field, cx: float, cy: float, radius: float) -> Field:
    return (((x - cx) ** 2 + (y - cy) ** 2) < radius**2).astype(np.float32)


def _scatter(seed: int, count: int, low: float, high: float) -> NDArray[np.float64]:
    """Return `count` fixed points (x, y, u), evenly strewn: x, u in [0, 1), y between `low` and `high`."""
    index = np.arange(1, count + 1)
    points = (seed * 0.37 + index[:, None] * np.array([0.7548776662, 0.5698402910, 0.3819660113])) % 1.0
    points[:, 1] = low + (high - low) * points[:, 1]
    return points


def _dots(
    picture: Field, x: Field, y: Field, points: NDArray[np.float64], radius: float, colour: Colour
) -> Field:
    for px, py, u in points:
        picture = _blend(_disc(x, y, px, py, radius * (0.6 + 0.8 * u)), picture, colour)
    return picture


def _cloud(picture: Field, x: Field, y: Field, cx: float, cy: float, width: float) -> Field:
    for dx, radius in ((-0.5, 0.26), (-0.12, 0.38), (0.3, 0.30), (0.58, 0.2)):
        shape = _disc(x, y, cx + dx * width, cy, radius * width) * (y < cy + 0.1 * width)
        picture = _blend(shape, picture, (255, 255, 255))
    return picture


def _day(x: Field, y: Field) -> Field:
    sky = _blend(y / 0.8, (92, 176, 255), (206, 234, 255))
    sky = _blend(_disc(x, y, 0.86, 0.13, 0.085), sky, (255, 222, 70))
    sky = _cloud(_cloud(sky, x, y, 0.22, 0.17, 0.17), x, y, 0.60, 0.31, 0.12)
    return _blend((y > 0.80 + 0.012 * np.sin(9 * x)).astype(np.float32), sky, (226, 200, 150))


def _sunset(x: Field, y: Field) -> Field:
    sky = _blend(y / 0.45, (112, 62, 140), (240, 110, 100))
    sky = _blend((y - 0.40) / 0.38, sky, (255, 190, 92))
    sky = _blend(_disc(x, y, 0.5, 0.76, 0.17), sky, (255, 240, 170))
    return _blend((y > 0.78 + 0.03 * np.sin(5 * x + 1)).astype(np.float32), sky, (92, 46, 74))


def _night(x: Field, y: Field) -> Field:
    sky = _blend(y, (8, 10, 38), (36, 44, 100))
    sky = _dots(sky, x, y, _scatter(1, 42, 0.02, 0.80), 0.0075, (240, 240, 220))
    moon = _disc(x, y, 0.16, 0.15, 0.085) * (1 - _disc(x, y, 0.20, 0.125, 0.075))
    sky = _blend(moon, sky, (250, 244, 205))
    return _blend((y > 0.84 + 0.02 * np.sin(6 * x)).astype(np.float32), sky, (14, 20, 34))


def _snow(x: Field, y: Field) -> Field:
    sky = _blend(y / 0.7, (168, 184, 204), (214, 224, 236))
    sky = _blend((y > 0.70 + 0.04 * np.sin(6 * x + 2)).astype(np.float32), sky, (246, 250, 255))
    return _dots(sky, x, y, _scatter(2, 46, 0.0, 0.98), 0.011, (255, 255, 255))


def _sea(x: Field, y: Field) -> Field:
    picture = _blend(y / 0.34, (176, 226, 240), (224, 244, 244))
    for level in range(5):
        crest = 0.34 + 0.13 * level + 0.016 * np.sin(2 * np.pi * (4 * x + 0.37 * level))
        shade = _blend(np.full_like(y, level / 4), (64, 184, 206), (10, 92, 150))
        picture = _blend((y > crest).astype(np.float32), picture, shade)
    return picture


def _meadow(x: Field, y: Field) -> Field:
    picture = _blend(y / 0.3, (190, 226, 190), (222, 240, 200))
    picture = _blend((y > 0.26 + 0.035 * np.sin(5 * x)).astype(np.float32), picture, (134, 200, 96))
    grass = _blend((y - 0.4) / 0.6, (104, 180, 72), (52, 132, 48))
    picture = _blend((y > 0.40 + 0.03 * np.sin(4 * x + 2)).astype(np.float32), picture, grass)
    picture = _dots(picture, x, y, _scatter(3, 16, 0.50, 0.97), 0.014, (255, 250, 240))
    return _dots(picture, x, y, _scatter(5, 12, 0.50, 0.97), 0.013, (255, 214, 60))


_PAINTERS: tuple[Callable[[Field, Field], Field], ...] = (_day, _sunset, _night, _snow, _sea, _meadow)
