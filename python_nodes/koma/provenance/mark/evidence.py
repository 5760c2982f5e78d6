"""How sure it is that a mark is there: a score with a bound that holds for every unmarked picture.

Let ``c`` be a coefficient and ``d`` its place on the lattice. In an unmarked picture the angle ``2π (c /
step − d)`` is uniform, because the key drew ``d`` at random and independently of the picture. At one
position ``p`` of the tile let ``Z_p`` be the sum of ``exp(2πi c / step)`` over all tiles and frames. The
key turns only the direction of ``Z_p``: the value ``Re(exp(−2πi d_p) Z_p)`` is ``|Z_p| cos(a)`` with a
uniform angle ``a``, and angles at different positions are independent. Since ``E exp(s cos a) = I0(s) ≤
exp(s² / 4)``, the sum of the values of all positions, each with any fixed sign, exceeds ``t sqrt(Σ|Z_p|² /
2)`` with a probability of at most ``exp(−t² / 2)``. The score of a payload is that ``t``. There are
``2^BITS`` payloads and so many places where the tile may begin; the probabilities of all of them are added
up (``THRESHOLD``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from koma.provenance.mark import code
from koma.provenance.mark.pattern import POSITIONS, Pattern
from koma.provenance.mark.payload import BITS, Payload

Sums = npt.NDArray[np.complex128]
"""[guesses, POSITIONS]: ``Z_p`` for each guess of where the tile begins."""

FALSE_POSITIVES = 1e-6
"""Unmarked pictures that may be taken for marked ones."""
MAX_GUESSES = 1 << 14
"""Guesses that the search makes at most for one picture."""
CANDIDATES = 8
"""Guesses of which the payload is decoded."""


def chance(score: float) -> float:
    """Return a bound on how probable ``score`` or a higher one is for an unmarked picture."""
    exponent = BITS * math.log(2) + math.log(MAX_GUESSES) - max(score, 0.0) ** 2 / 2
    return math.exp(min(0.0, exponent))


THRESHOLD = math.sqrt(2 * (BITS * math.log(2) + math.log(MAX_GUESSES) - math.log(FALSE_POSITIVES)))
"""The score from which a mark counts as found."""
BEST = math.sqrt(2 * POSITIONS)
"""The score of an untouched mark."""


@dataclass(frozen=True)
class Reading:
    """The likeliest payload and how sure it is."""

    payload: Payload
    score: float
    guess: int
    """Which of the guesses it belongs to."""

    @property
    def found(self) -> bool:
        """Whether the mark is there."""
        return self.score >= THRESHOLD


def read(sums: Sums, pattern: Pattern) -> Reading:
    """Return the best reading over all guesses."""
    values = -np.real(sums * np.exp(-2j * np.pi * pattern.turns.ravel()))
    norms = np.sqrt((np.abs(sums) ** 2).sum(axis=1) / 2)
    norms[norms == 0] = np.inf
    bits = values @ pattern.membership
    likeliest = np.argsort(-np.abs(bits).sum(axis=1) / norms)[:CANDIDATES]
    decoded, totals = code.decode(bits[likeliest])
    scores = totals / norms[likeliest]
    best = int(np.argmax(scores))
    return Reading(Payload.of_bits(decoded[best]), float(scores[best]), int(likeliest[best]))
