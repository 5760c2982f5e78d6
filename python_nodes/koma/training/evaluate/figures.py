"""Measured figures with their confidence intervals and goals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Z95 = 1.959964
"""Two-sided 95 % point of the normal distribution."""


@dataclass(frozen=True)
class Figure:
    """One row of the table: a value with its 95 % interval over `n` samples, and what it should reach.

    `unit` is "%", "dB", "s" or "×" (a ratio of seconds); of the last two less is better, and the interval is
    the span of the repetitions.
    """

    what: str
    value: float
    low: float
    high: float
    n: int
    unit: str = "%"
    must: float | None = None
    aim: float | None = None

    @property
    def less_is_better(self) -> bool:
        """Whether a goal is a bound from above."""
        return self.unit in ("s", "×")

    def reached(self, goal: float | None) -> bool | None:
        """Tell whether the value reaches a goal; None where there is none."""
        if goal is None:
            return None
        return self.value <= goal if self.less_is_better else self.value >= goal


def share(what: str, hits: Sequence[bool], must: float | None = None, aim: float | None = None) -> Figure:
    """Return the percentage of hits with its Wilson interval."""
    count, total = sum(hits), len(hits)
    low, high = wilson(count, total)
    return Figure(what, 100 * count / total, 100 * low, 100 * high, total, "%", must, aim)


def mean(
    what: str, values: Sequence[float], unit: str, must: float | None = None, aim: float | None = None
) -> Figure:
    """Return the mean with the interval of the normal approximation."""
    total = len(values)
    centre = sum(values) / total
    spread = math.sqrt(sum((value - centre) ** 2 for value in values) / max(1, total - 1) / total)
    return Figure(what, centre, centre - Z95 * spread, centre + Z95 * spread, total, unit, must, aim)


def balanced(
    what: str, positive: Sequence[bool], negative: Sequence[bool], must: float, aim: float
) -> Figure:
    """Return the mean of the two classes' accuracies; the interval is the mean of their Wilson intervals."""
    parts = [share("", positive), share("", negative)]
    value, low, high = (sum(getattr(part, name) for part in parts) / 2 for name in ("value", "low", "high"))
    return Figure(what, value, low, high, len(positive) + len(negative), "%", must, aim)


def wilson(successes: int, total: int) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion (Wilson 1927)."""
    if total == 0:
        return 0.0, 1.0
    p, z2 = successes / total, Z95**2
    centre = (p + z2 / (2 * total)) / (1 + z2 / total)
    half = Z95 / (1 + z2 / total) * math.sqrt(p * (1 - p) / total + z2 / (4 * total**2))
    return centre - half if successes else 0.0, centre + half if successes < total else 1.0
