"""Who runs in the next forward: rows grouped by key, keys and rows in fair rotation, with a batch cap for
each key."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator, Sequence
from typing import Generic, TypeVar

Row = TypeVar("Row")

MAX_CAPS = 512
"""Keys whose cap is remembered."""
FIRST_TRIAL = 16
"""Forwards at a halved cap before a larger one is tried again; doubles each time that the trial fails."""


class Batches(Generic[Row]):
    """Rows waiting for their next step. A key that ran goes to the end, and so do the rows that ran."""

    def __init__(self) -> None:
        self._groups: OrderedDict[Hashable, deque[Row]] = OrderedDict()

    def __len__(self) -> int:
        return sum(len(rows) for rows in self._groups.values())

    def __iter__(self) -> Iterator[Row]:
        return iter([row for rows in self._groups.values() for row in rows])

    def add(self, key: Hashable, row: Row) -> None:
        """Let ``row`` take part in the forwards of ``key``, behind those that wait already."""
        self._groups.setdefault(key, deque()).append(row)

    def put_back(self, key: Hashable, rows: Sequence[Row]) -> None:
        """Let ``rows`` run next: their forward has to be repeated."""
        self._groups.setdefault(key, deque()).extendleft(reversed(rows))
        self._groups.move_to_end(key, last=False)

    def remove(self, row: Row) -> None:
        """Take ``row`` out; no effect where it is not in."""
        for key, rows in list(self._groups.items()):
            if row in rows:
                rows.remove(row)
            if not rows:
                del self._groups[key]

    def first_key(self) -> Hashable:
        """Return the key whose turn it is; raises StopIteration where no row waits."""
        return next(iter(self._groups))

    def take(self, cap: int) -> list[Row]:
        """Take out up to ``cap`` rows of the key whose turn it is, and give the turn to the next key."""
        key, rows = self._groups.popitem(last=False)
        taken = [rows.popleft() for _ in range(min(cap, len(rows)))]
        if rows:
            self._groups[key] = rows
        return taken

    def sizes(self) -> dict[Hashable, int]:
        """Return key -> number of rows."""
        return {key: len(rows) for key, rows in self._groups.items()}


class BatchCap:
    """The largest batch of one key: halved when memory ran out, doubled again after enough successes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._successes = 0
        self._trial = FIRST_TRIAL
        self.value = limit

    def failed(self, batch: int) -> None:
        """A forward of ``batch`` rows did not fit."""
        if self.value < self._limit:
            self._trial *= 2
        self.value = max(1, batch // 2)
        self._successes = 0

    def succeeded(self, batch: int) -> None:
        """A forward of ``batch`` rows fitted; only full ones say that a larger one may be tried."""
        if self.value == self._limit or batch < self.value:
            return
        self._successes += 1
        if self._successes >= self._trial:
            self.value = min(self._limit, self.value * 2)
            self._successes = 0


class BatchCaps:
    """The caps of all keys; the oldest are forgotten, which only means that they are found out again."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._caps: dict[Hashable, BatchCap] = {}

    def __getitem__(self, key: Hashable) -> BatchCap:
        cap = self._caps.setdefault(key, BatchCap(self._limit))
        if len(self._caps) > MAX_CAPS:
            del self._caps[next(iter(self._caps))]
        return cap
