"""Threads beside the engine's own, and the record of what each of them is busy with."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from koma.runtime.pulse import Pulse, operation

Item = TypeVar("Item")


class Activity:
    """The operations of the runner that are going on, each with its pulse."""

    def __init__(self) -> None:
        self._pulses: dict[int, Pulse] = {}

    @contextmanager
    def operation(self, unwanted: Callable[[], bool]) -> Iterator[None]:
        """Mark the calling thread busy with something that ends early once it is ``unwanted``."""
        pulse = Pulse(unwanted)
        self._pulses[id(pulse)] = pulse
        try:
            with operation(pulse):
                yield
        finally:
            del self._pulses[id(pulse)]

    def busy_ms(self) -> int:
        """Milliseconds since the last beat of the operation that has been silent for longest; 0 when idle."""
        silences = [pulse.silent_s for pulse in list(self._pulses.values())]
        return int(max(silences, default=0.0) * 1000)


class Worker(Generic[Item]):
    """Daemon threads that call ``work`` on each item, first come, first served. ``work`` must not raise.

    At most ``at_once`` items are worked on at the same time. One that takes longer than ``patience_s`` no
    longer counts, so that long items do not keep short ones waiting; but there are never more than
    ``threads`` in all.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Item], None],
        threads: int = 1,
        at_once: int | None = None,
        patience_s: float = 0.0,
    ) -> None:
        self._work = work
        self._at_once = at_once or threads
        self._patience_s = patience_s
        self._items: deque[Item] = deque()
        self._since: dict[int, float] = {}
        """Thread -> when it began with its item"""
        self._changed = threading.Condition()
        self._stopping = False
        for _ in range(max(threads, self._at_once)):
            threading.Thread(target=self._run, name=name, daemon=True).start()

    def put(self, item: Item) -> None:
        """Hand over an item; returns at once."""
        with self._changed:
            self._items.append(item)
            self._changed.notify()

    def stop(self) -> None:
        """End the threads after the items that they have."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def _run(self) -> None:
        while (item := self._next()) is not None:
            self._work(item)

    def _next(self) -> Item | None:
        """Wait for the next item; None: there will be none."""
        me = threading.get_ident()
        with self._changed:
            self._since.pop(me, None)
            while (wait := self._wait_s()) is None or wait > 0:
                if self._stopping and not self._items:
                    return None
                self._changed.wait(wait)
            self._since[me] = time.monotonic()
            return self._items.popleft()

    def _wait_s(self) -> float | None:
        """Seconds until the next item may be begun; None: until another one comes."""
        if not self._items:
            return None
        if len(self._since) < self._at_once:
            return 0.0
        now = time.monotonic()
        left = [since + self._patience_s - now for since in self._since.values()]
        counting = [seconds for seconds in left if seconds > 0]
        return 0.0 if len(counting) < self._at_once else min(counting)
