"""Who computes: two threads of one model at once share cores and the interpreter, and both are slower."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Lets threads compute one at a time, first come, first served.

    In this order nobody is kept out: whoever begins waits for one step of the others, not for all of them.
    (A ``threading.Lock`` goes to whoever asks first after its release, mostly the one who released it.)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Event] = deque()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the turn of the calling thread, and give it up at the end. Not to be nested."""
        self._take()
        try:
            yield
        finally:
            self._give()

    def _take(self) -> None:
        with self._lock:
            if not self._taken:
                self._taken = True
                return
            mine = threading.Event()
            self._waiting.append(mine)
        mine.wait()

    def _give(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()  # still taken: by that one
            else:
                self._taken = False
