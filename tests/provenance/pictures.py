"""Pictures to mark, from a seed: soft shapes with edges and a little noise, as paintings and photos have."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


def picture(seed: int, height: int = 256, width: int = 256) -> Pixels:
    """A picture of waves of several lengths, with discs on it."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    levels = np.full((height, width, 3), 128.0)
    for length in (180.0, 60.0, 20.0):
        angle, phase = random.uniform(0, 2 * np.pi, 2)
        wave = np.sin((rows * np.cos(angle) + columns * np.sin(angle)) * 2 * np.pi / length + phase)
        levels += wave[..., None] * random.uniform(5, 25, 3)
    for _ in range(6):
        centre, radius = random.uniform(0, 1, 2) * (height, width), random.uniform(0.05, 0.2) * width
        inside = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2
        levels[inside] = random.uniform(20, 235, 3)
    levels += random.normal(0, 2, levels.shape)
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def psnr(first: Pixels, second: Pixels) -> float:
    """Return the peak signal-to-noise ratio in decibels."""
    error = float(((first.astype(np.float64) - second) ** 2).mean())
    return float(10 * np.log10(255**2 / error))
