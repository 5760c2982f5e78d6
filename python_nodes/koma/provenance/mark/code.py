"""Error correction: a convolutional code of rate 1/3 with 64 states, decoded from soft values.

The code is the well-known one with the generators 133, 171 and 165 (octal). Six zeros at the end bring it
back to its first state, so every bit of the payload is protected equally well.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.floating[Any]]

MEMORY = 6
GENERATORS = (0o133, 0o171, 0o165)
RATE = len(GENERATORS)
STATES = 1 << MEMORY


def coded_length(bits: int) -> int:
    """Return how many coded bits carry ``bits`` bits."""
    return (bits + MEMORY) * RATE


def encode(bits: Bits) -> Bits:
    """Return the coded bits of ``bits``."""
    padded = np.concatenate([np.zeros(MEMORY, np.uint8), bits, np.zeros(MEMORY, np.uint8)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, MEMORY + 1)
    return ((windows @ _taps()) % 2).astype(np.uint8).ravel()


def decode(values: Floats) -> tuple[Bits, Floats]:
    """Find the likeliest bits of each row of soft values [rows, coded bits]; positive values say 1.

    Returns the bits [rows, bits] and, for each row, the sum of the values with the signs of its coded bits.
    No other payload has a larger sum: this is the Viterbi algorithm.
    """
    rows, steps = values.shape[0], values.shape[1] // RATE
    earlier, signs = _trellis()
    branches = (values.reshape(rows, steps, RATE) @ signs).reshape(rows, steps, 2, STATES)
    scores = np.full((rows, STATES), -np.inf)
    scores[:, 0] = 0.0
    choices = np.empty((steps, rows, STATES), np.uint8)
    for step in range(steps):
        first = scores[:, earlier[0]] + branches[:, step, 0]
        second = scores[:, earlier[1]] + branches[:, step, 1]
        choices[step] = second > first
        scores = np.maximum(first, second)
    return _traced(choices, earlier), scores[:, 0].copy()


def _traced(choices: Bits, earlier: npt.NDArray[np.int64]) -> Bits:
    """Walk back from the state of zeros; the newest bit of a state is its lowest one."""
    steps, rows, _ = choices.shape
    state = np.zeros(rows, np.int64)
    bits = np.empty((rows, steps), np.uint8)
    for step in range(steps - 1, -1, -1):
        bits[:, step] = state & 1
        state = earlier[choices[step, np.arange(rows), state], state]
    return bits[:, : steps - MEMORY]


def _taps() -> npt.NDArray[np.int64]:
    """[window, generator]: which of the last seven bits, the oldest first, each coded bit adds up."""
    return np.array(
        [[generator >> (MEMORY - place) & 1 for generator in GENERATORS] for place in range(MEMORY + 1)][::-1]
    )


@cache
def _trellis() -> tuple[npt.NDArray[np.int64], Floats]:
    """For both ways into each state: the state before [2, STATES], and the signs of the coded bits on that
    way [RATE, 2 * STATES]."""
    states = np.arange(STATES)
    earlier = np.stack([(states >> 1) | (oldest << (MEMORY - 1)) for oldest in (0, 1)])
    windows = (earlier << 1) | (states & 1)  # the last seven bits, the newest lowest
    places = np.arange(MEMORY, -1, -1)
    bits = (windows.reshape(-1, 1) >> places) & 1  # the oldest first
    signs = 2.0 * ((bits @ _taps()) % 2) - 1.0
    return earlier, np.ascontiguousarray(signs.T)
