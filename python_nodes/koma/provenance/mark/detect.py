"""Reads the mark of a picture or of some frames of a video."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from koma.provenance.mark import blocks, evidence, search
from koma.provenance.mark.blocks import Luma, Pixels
from koma.provenance.mark.evidence import Reading, Sums
from koma.provenance.mark.pattern import Pattern

Group = Callable[[Sequence[Luma]], Iterator[Sums]]
GROUPS: tuple[Group, ...] = (
    search.in_place,
    search.stretched,
    search.blurred,
    search.resized,
    search.trimmed,
    search.shifted,
)
"""The guesses of the detector, the quickest first."""


def detect(frames: Sequence[Pixels], pattern: Pattern, groups: Sequence[Group] = GROUPS) -> Reading | None:
    """Return the surest reading of ``frames``, which vote together; None for pictures without a whole block.

    The search ends with the first group of guesses in which the mark is found.
    """
    brightness = [blocks.luma(frame) for frame in frames]
    if not brightness or min(brightness[0].shape) < blocks.SIDE:
        return None
    best: Reading | None = None
    for group in groups:
        for sums in group(brightness):
            reading = evidence.read(sums, pattern)
            if best is None or reading.score > best.score:
                best = reading
        if best is not None and best.found:
            return best
    return best
