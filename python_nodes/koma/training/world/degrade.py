"""Light damage to rendered pictures, so that what is trained on them bears codecs and generators.

One kind and strength of damage per clip: the frames of one clip look alike.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

NOISE = 0.04
"""Largest standard deviation of the noise, of a range of 1."""
BRIGHTNESS = 0.06
"""Largest shift and relative change of contrast."""
BLUR_SHARE = 0.4


def degrade(clips: Tensor, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """Take clips `[B, T, 3, H, W]` in 0 to 255; return float32 in about [0, 1], lightly damaged.

    Noise of random strength, a change of brightness and contrast (both times `strength`), and a blur by
    shrinking for some.
    """
    count, device = len(clips), clips.device

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, 1, 1, 1, 1, device=device, generator=generator) * (high - low) + low

    pixels = clips.float() / 255
    blurred = _blur(pixels)
    amount = uniform(0, 1) * (uniform(0, 1) < BLUR_SHARE)
    pixels = torch.lerp(pixels, blurred, amount)
    shift = strength * BRIGHTNESS
    pixels = pixels * uniform(1 - shift, 1 + shift) + uniform(-shift, shift)
    noise = torch.randn(pixels.shape, device=device, generator=generator)
    return pixels + noise * (uniform(0, 1) ** 2 * strength * NOISE)


def _blur(pixels: Tensor) -> Tensor:
    """Halve and restore the resolution."""
    height, width = pixels.shape[-2:]
    flat = pixels.flatten(0, 1)
    small = functional.avg_pool2d(flat, 2)
    return functional.interpolate(small, (height, width), mode="bilinear").view_as(pixels)
