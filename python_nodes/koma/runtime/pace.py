"""How long things take: measured step times become the estimate of the time left."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

SMOOTHING = 0.3
"""Weight of the newest measurement in the moving averages."""
PREVIEW_SHARE = 0.1
"""Least share of the time of one core for previews where many jobs step: they are there to be looked at, not
to be waited for. A job that is alone may have a core for them, two jobs a quarter of one, four a tenth."""
MAX_KEYS = 512
"""Keys whose times are kept, so that a node that lives for months does not grow."""


class Pace:
    """Moving averages of forwards by (key, batch size) and of the other phases by task; milliseconds."""

    def __init__(self) -> None:
        self._forwards: dict[Hashable, dict[int, float]] = {}
        self._phases: dict[tuple[str, str], float] = {}
        self.last_step_ms = 0.0

    def forward(self, key: Hashable, batch: int, ms: float) -> None:
        """Note a forward of ``batch`` rows."""
        sizes = self._forwards.setdefault(key, {})
        if len(self._forwards) > MAX_KEYS:
            del self._forwards[next(iter(self._forwards))]
        sizes[batch] = _blend(sizes.get(batch), ms)
        self.last_step_ms = ms

    def phase(self, task: str, phase: str, ms: float) -> None:
        """Note the time of ``prepare`` or ``finish``, or of the ``steps`` of one job each."""
        self._phases[task, phase] = _blend(self._phases.get((task, phase)), ms)

    def phase_ms(self, task: str, phase: str) -> float:
        """Expected time of a phase; 0 while unknown."""
        return self._phases.get((task, phase), 0.0)

    def forward_ms(self, key: Hashable, batch: int) -> float:
        """Expected time of a forward of ``batch`` rows; 0 before the first forward.

        A key that was never measured is taken for the last one that was. A size that was never measured is
        taken from the nearest one that was: not scaled down for fewer rows, and scaled up in proportion for
        more, so that the estimate errs on the long side.
        """
        sizes = self._forwards.get(key)
        if not sizes:
            return self.last_step_ms
        nearest = min(sizes, key=lambda size: (abs(size - batch), size))
        return sizes[nearest] * max(1.0, batch / nearest)

    def interval_ms(self, key: Hashable, rows: Mapping[Hashable, int], caps: Mapping[Hashable, int]) -> float:
        """Expected time between two steps of a row of ``key`` while ``rows`` rows of each key are in flight.

        Each round runs one forward of every key; rows beyond the cap of their key take turns.
        """
        one_round = sum(self.forward_ms(other, min(count, caps[other])) for other, count in rows.items())
        return one_round * max(1.0, rows[key] / caps[key])


class PreviewPace:
    """Whether another preview may be made now, so that all of them together take their share of the time at
    most; what one takes is learned from those before it. Not safe for several threads but in :meth:`took`."""

    def __init__(self) -> None:
        self._expected_s: float | None = None
        self._free_at = 0.0

    def take(self, now: float, jobs: int) -> bool:
        """Take the turn at ``now`` (seconds) while ``jobs`` step, if it is one."""
        if now < self._free_at:
            return False
        self._free_at = now + (self._expected_s or 0.0) / max(PREVIEW_SHARE, 1 / jobs**2)
        return True

    def took(self, seconds: float) -> None:
        """A preview was made in ``seconds``."""
        self._expected_s = _blend(self._expected_s, seconds)


def _blend(old: float | None, new: float) -> float:
    return new if old is None else old + SMOOTHING * (new - old)
