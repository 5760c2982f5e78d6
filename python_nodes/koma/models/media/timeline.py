"""When the frames of a video are shown, and which of them a model looks at: pure arithmetic on seconds."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

SKIPPED_SECONDS = 1
"""SmolVLM2's own sampling leaves out the first and the last second of a video that is long enough."""
LONGEST_GUESS = 1.0
"""Seconds that the last frame is taken to be shown for at most, where nothing says how long."""
ROUNDING = 0.001
"""Containers round times to their tick; WebM's millisecond stays in a file that was repacked from it."""


@dataclass(frozen=True)
class Timeline:
    """The presentation times of a video's frames on the clock that a player shows."""

    times: tuple[float, ...]
    """Seconds from the first frame to each frame, ascending"""
    rate: float
    """Frames a second; the mean where the rate varies"""
    seconds: float
    """How long the frames are shown altogether"""
    constant: bool
    """Whether each frame is shown for the same time, but for rounding"""
    start: float = 0.0
    """Seconds on the player's clock when the first frame is shown, for example after sound began"""

    def time(self, index: int) -> float:
        """The second on the player's clock when frame ``index`` is shown."""
        return self.start + (index / self.rate if self.constant else self.times[index])

    def choose(self, most: int, per_second: float) -> list[int]:
        """Indices of at most ``most`` frames, ``per_second`` of each second, evenly spread in time.

        The rules are those of ``SmolVLMVideoProcessor.sample_frames`` of transformers, which spreads indices
        evenly. Where the rate is constant, the result is the same; where it varies, seconds are spread
        instead, and the frame is taken that is shown then.
        """
        count = max(1, min(round(per_second * self.seconds), most))
        long_enough = self.seconds - 2 * SKIPPED_SECONDS > most * per_second
        if self.constant:
            return self._evenly_by_index(count, SKIPPED_SECONDS if long_enough else 0)
        first, last = 0.0, self.times[-1]
        if long_enough and self.seconds - SKIPPED_SECONDS > SKIPPED_SECONDS:
            first, last = float(SKIPPED_SECONDS), min(last, self.seconds - SKIPPED_SECONDS)
        return sorted({self._shown_at(float(second)) for second in np.linspace(first, last, count)})

    def _evenly_by_index(self, count: int, skipped: int) -> list[int]:
        final = len(self.times) - 1
        first = int(skipped * self.rate)
        last = min(int(len(self.times) - skipped * self.rate), final)
        if first >= last:
            first, last = 0, final
        return sorted({int(index) for index in np.linspace(first, last, count, dtype=int)})

    def _shown_at(self, second: float) -> int:
        return max(0, bisect_right(self.times, second + 1e-6) - 1)


def of(
    stamps: Sequence[float], last_shown_for: float, rates: Sequence[float], tick: float, clock: float
) -> Timeline:
    """Make the timeline of at least one frame.

    Args:
        stamps: seconds of all frames, ascending, counted from anywhere.
        last_shown_for: seconds of the last frame; 0 where nobody knows.
        rates: frames a second that the container suggests, likeliest first.
        tick: seconds that the container rounds times to.
        clock: the stamp at which a player's clock shows 0.
    """
    times = tuple(stamp - stamps[0] for stamp in stamps)
    span = times[-1]
    suggested = [rate for rate in rates if rate > 0]
    if span > 0:
        slack = 1.01 * max(tick, ROUNDING)
        fitting = [*suggested, (len(times) - 1) / span]
        constant = next((rate for rate in fitting if _is_constant(times, rate, slack)), None)
    else:
        constant = 1 / last_shown_for if last_shown_for > 0 else next(iter(suggested), 1.0)
    if constant is not None:
        return Timeline(times, constant, len(times) / constant, True, _start(stamps[0] - clock, constant))
    seconds = span + (last_shown_for if last_shown_for > 0 else _shortest(times))
    rate = len(times) / seconds
    return Timeline(times, rate, seconds, False, _start(stamps[0] - clock, rate))


def _is_constant(times: Sequence[float], rate: float, slack: float) -> bool:
    return all(abs(time - index / rate) <= slack for index, time in enumerate(times))


def _shortest(times: Sequence[float]) -> float:
    intervals = (later - earlier for earlier, later in pairwise(times))
    return min(LONGEST_GUESS, *intervals)


def _start(delay: float, rate: float) -> float:
    """Less than a frame comes from the priming of a sound track: a player shows the first frame at once."""
    return delay if delay * rate >= 1 else 0.0
