"""Who computes: two threads of one model at once share cores and the interpreter, and both are slower."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from koma.runtime import pulse

POLL_S = 0.05
"""How often whoever waits looks whether anybody still wants its work."""


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
        """Wait for the turn of the calling thread, and give it up at the end. Not to be nested.

        The wait counts as no silence of the operation, and ends with ``Cancelled`` as soon as nobody wants
        the operation any more.
        """
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
        try:
            with pulse.waiting():
                while not mine.wait(POLL_S):
                    pulse.beat()
        except BaseException:
            self._leave(mine)
            raise

    def _leave(self, mine: threading.Event) -> None:
        with self._lock:
            if mine in self._waiting:
                self._waiting.remove(mine)
                return
        self._give()  # the turn came meanwhile

    def _give(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()  # still taken: by that one
            else:
                self._taken = False
