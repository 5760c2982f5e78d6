"""What the key decides: which value each coefficient is rounded to, and which bit it carries."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from koma.provenance.mark import blocks, code, payload

TILE = 8
"""The pattern repeats after so many blocks, 64 pixels, so a part of a picture is enough."""
POSITIONS = TILE * TILE * blocks.CARRIERS
"""Coefficients of one tile."""
CODED = code.coded_length(payload.BITS)


@dataclass(frozen=True)
class Pattern:
    """The secret part of a mark."""

    turns: npt.NDArray[np.float64]
    """[TILE, TILE, CARRIERS]: where on its lattice each coefficient lies for a bit of 0, from 0 to 1."""
    carried: npt.NDArray[np.int64]
    """[TILE, TILE, CARRIERS]: which coded bit each coefficient carries."""

    @property
    def membership(self) -> npt.NDArray[np.float64]:
        """[POSITIONS, CODED]: 1 where the coefficient carries the coded bit."""
        return np.eye(CODED)[self.carried.ravel()]


@lru_cache(maxsize=8)
def of_key(key: bytes) -> Pattern:
    """Derive the pattern of ``key``. Whoever does not have the key can neither read nor tell the mark."""
    shape = (TILE, TILE, blocks.CARRIERS)
    numbers = _numbers(key, b"turns", POSITIONS) / 2.0**32
    order = np.argsort(_numbers(key, b"order", POSITIONS), kind="stable")
    carried = np.empty(POSITIONS, np.int64)
    carried[order] = np.arange(POSITIONS) % CODED
    return Pattern(numbers.reshape(shape), carried.reshape(shape))


def _numbers(key: bytes, purpose: bytes, count: int) -> npt.NDArray[np.uint32]:
    """``count`` numbers below 2 to the 32nd that look random to whoever does not have the key."""
    stream = hashlib.shake_256(b"koma invisible mark 1/" + purpose + b"/" + key).digest(4 * count)
    return np.frombuffer(stream, dtype="<u4")
