"""Threads beside the engine's own, and the record of what each of them is busy with."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Activity:
    """Since when each thread has been inside an operation of the runner."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}

    @contextmanager
    def operation(self) -> Iterator[None]:
        """Mark the calling thread busy."""
        self._since[threading.get_ident()] = time.monotonic()
        try:
            yield
        finally:
            del self._since[threading.get_ident()]

    def busy_ms(self) -> int:
        """Milliseconds of the longest operation that still runs; 0 when idle."""
        since = list(self._since.values())
        return 0 if not since else max(0, int((time.monotonic() - min(since)) * 1000))


class Worker(Generic[Item]):
    """Daemon threads that call ``work`` on each item, first come, first served. ``work`` must not raise."""

    def __init__(self, name: str, work: Callable[[Item], None], threads: int = 1) -> None:
        self._items: SimpleQueue[Item | None] = SimpleQueue()
        self._work = work
        self._threads = threads
        for _ in range(threads):
            threading.Thread(target=self._run, name=name, daemon=True).start()

    def put(self, item: Item) -> None:
        """Hand over an item; returns at once."""
        self._items.put(item)

    def stop(self) -> None:
        """End the threads after the items that they have."""
        for _ in range(self._threads):
            self._items.put(None)

    def _run(self) -> None:
        while (item := self._items.get()) is not None:
            self._work(item)
