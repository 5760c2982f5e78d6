"""High dynamic range (PQ, HLG) -> standard range: what the usual command line of ffmpeg does, in numpy.

The wheels of PyAV come without zimg, so that FFmpeg's own filter graph for this is not at hand. These are the
formulas of that graph, step by step:
``zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,tonemap=tonemap=hable:desat=0,``
``zscale=t=bt709:m=bt709:r=tv,format=yuv420p``.
"""

from __future__ import annotations

import struct
from enum import Enum
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

WHITE_NITS = 100.0
"""Candelas a square metre that standard white has (``npl=100``)."""
PEAK = 10.0
"""Brightest light in units of white, where the file does not tell it: 1000 candelas a square metre."""
DISPLAY_GAMMA = 2.4
"""ITU-R BT.1886: how a screen of standard range shows BT.709."""
BT2020_TO_BT709 = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]],
    dtype=np.float32,
)
"""Linear light, ITU-R BT.2087."""
_RED, _GREEN, _BLUE = 0.2126, 0.7152, 0.0722
_CB, _CR = 1.8556, 1.5748


class Curve(Enum):
    """Transfer characteristics by their number in ITU-T H.273."""

    PQ = 16
    HLG = 18


CURVES = {curve.value: curve for curve in Curve}


def mapped(deep: npt.NDArray[np.uint16], curve: Curve, peak: float) -> npt.NDArray[np.uint8]:
    """Map RGB [height, width, 3] of 16 bits in BT.2020 to bytes in BT.709; ``peak`` in units of white."""
    light = _light(curve)[deep] @ BT2020_TO_BT709.T
    brightest = np.maximum(light.max(axis=-1, keepdims=True), 1e-6)
    light *= _hable(brightest) / (_hable(np.float32(peak)) * brightest)
    return _in_video_levels(np.sign(light) * np.abs(light) ** np.float32(1 / DISPLAY_GAMMA))


def peak(side_data: Any) -> float:
    """The brightest light that the file tells of, in units of white."""
    level = side_data.get("CONTENT_LIGHT_LEVEL")
    told = float(struct.unpack_from("=I", bytes(level))[0]) if level is not None else 0.0
    mastering = side_data.get("MASTERING_DISPLAY_METADATA")
    if not told and mastering is not None:
        *_, numerator, denominator, _, has_luminance = struct.unpack_from("=22i", bytes(mastering))
        told = numerator / denominator if has_luminance and denominator else 0.0
    return told / WHITE_NITS if told > 0 else PEAK


@cache
def _light(curve: Curve) -> Floats:
    """Linear light in units of white for each of the 65,536 values of a channel."""
    signal = np.linspace(0, 1, 1 << 16)
    return (_pq(signal) if curve is Curve.PQ else _hlg(signal)).astype(np.float32)


def _pq(signal: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """SMPTE ST 2084, up to 10,000 candelas a square metre."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = signal ** (1 / m2)
    light: npt.NDArray[np.float64] = (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
    return light * (10_000 / WHITE_NITS)


def _hlg(signal: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """ITU-R BT.2100 on a screen of 1000 candelas a square metre (system gamma 1.2, on each channel)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    light: npt.NDArray[np.float64] = scene**1.2
    return light * (1_000 / WHITE_NITS)


def _hable(light: Floats | np.float32) -> Any:
    """John Hable's filmic curve (FFmpeg's ``tonemap=hable``)."""
    a, b, c, d, e, f = (np.float32(constant) for constant in (0.15, 0.50, 0.10, 0.20, 0.02, 0.30))
    return (light * (light * a + b * c) + d * e) / (light * (light * a + b) + d * f) - e / f


def _in_video_levels(signal: Floats) -> npt.NDArray[np.uint8]:
    """Bytes of RGB as a video of 8 bits keeps them: its levels cut off what BT.709 cannot show."""
    luma = signal @ np.array([_RED, _GREEN, _BLUE], dtype=np.float32)
    kept = _level(luma, 16, 219)
    blue = kept + _CB * _level((signal[..., 2] - luma) / _CB, 128, 224)
    red = kept + _CR * _level((signal[..., 0] - luma) / _CR, 128, 224)
    green = (kept - _RED * red - _BLUE * blue) / _GREEN
    shown = np.stack([red, green, blue], axis=-1)
    return (np.clip(shown, 0, 1) * 255 + 0.5).astype(np.uint8)


def _level(signal: Floats, zero: int, span: int) -> Floats:
    """``signal`` rounded to a byte and back."""
    level = (np.clip(np.round(signal * span + zero), 0, 255) - zero) / span
    return level.astype(np.float32)
