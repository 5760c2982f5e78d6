"""Which packets have to be decoded to get certain frames: pure arithmetic on a table of packets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Entry(NamedTuple):
    """What is known of one packet without decoding it."""

    pts: int
    key: bool
    """Decoding may begin here."""
    shown: bool
    """Whether its frame is shown; others are only needed to decode later ones."""


@dataclass(frozen=True)
class Run:
    """Packets that are decoded one after the other."""

    start: int
    """Number of the first packet"""
    last: int
    """Number of the last packet"""
    wanted: frozenset[int]
    """Presentation stamps of the frames that are taken"""

    @property
    def packets(self) -> int:
        """How many packets are decoded."""
        return self.last - self.start + 1


def stamps(entries: Sequence[Entry]) -> list[int]:
    """Presentation stamps of the frames that are shown, ascending."""
    return sorted(entry.pts for entry in entries if entry.shown)


def in_order(entries: Sequence[Entry], wanted: Sequence[int]) -> list[Run]:
    """One run from the first packet on; nothing can be amiss with its frames."""
    numbers = _numbers(entries)
    return [Run(0, max(numbers[stamp] for stamp in wanted), frozenset(wanted))]


def by_leaps(entries: Sequence[Entry], wanted: Sequence[int]) -> list[Run]:
    """Runs that begin at the last key frame before each wanted frame, ascending and apart.

    A frame that is shown before a key frame but stored after it needs the key frame before that one, because
    it may refer to what came earlier (an open group of pictures).
    """
    numbers = _numbers(entries)
    runs: list[Run] = []
    for stamp in sorted(wanted):
        last = numbers[stamp]
        run = Run(_key_before(entries, stamp, last), last, frozenset([stamp]))
        while runs and run.start <= runs[-1].last:
            run = _joined(runs.pop(), run)
        runs.append(run)
    return runs


def _numbers(entries: Sequence[Entry]) -> dict[int, int]:
    return {entry.pts: number for number, entry in enumerate(entries) if entry.shown}


def _key_before(entries: Sequence[Entry], stamp: int, number: int) -> int:
    for start in range(number, 0, -1):
        if entries[start].key and entries[start].pts <= stamp:
            return start
    return 0


def _joined(one: Run, other: Run) -> Run:
    return Run(min(one.start, other.start), max(one.last, other.last), one.wanted | other.wanted)
