"""Lets long work show that it is alive and notice that nobody wants it any more.

Every piece of work that a runner does for a job is an *operation*. Between two parts of an operation
(a frame, a tile, a layer, a chunk of a prompt) the code calls :func:`beat`. That call says "still alive",
so that the gateway does not take a long operation for a hang, and it ends the operation where every job
that it works for was cancelled.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Cancelled(BaseException):
    """The jobs of the current operation were cancelled; the engine, not a user, is told by this.

    As with asyncio's ``CancelledError``, no ``except Exception`` of a library takes it for a failure.
    """


class Pulse:
    """One operation: when it last showed that it is alive, and whether anybody still wants it."""

    def __init__(self, unwanted: Callable[[], bool] = lambda: False) -> None:
        self._unwanted = unwanted
        self._waits = 0
        self.beaten_at = time.monotonic()

    @property
    def silent_s(self) -> float:
        """Seconds since the last beat; 0 while the operation waits for its turn."""
        return 0.0 if self._waits else time.monotonic() - self.beaten_at

    def beat(self) -> None:
        """Say that the operation is alive; raise :class:`Cancelled` where nobody wants it any more."""
        self.beaten_at = time.monotonic()
        if self._unwanted():
            raise Cancelled

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as waiting for others, which is no silence."""
        self._waits += 1
        try:
            yield
        finally:
            self.beaten_at = time.monotonic()  # first, so that the wait is never seen as silence
            self._waits -= 1


_current: ContextVar[Pulse | None] = ContextVar("koma_pulse", default=None)


@contextmanager
def operation(pulse: Pulse) -> Iterator[Pulse]:
    """Make ``pulse`` the one that :func:`beat` of this thread speaks for."""
    token = _current.set(pulse)
    try:
        yield pulse
    finally:
        _current.reset(token)


def beat() -> None:
    """Say that the operation of this thread is alive; does nothing outside of one.

    Cheap enough for every frame and every layer (well below a microsecond).

    Raises:
        Cancelled: where every job that the operation works for was cancelled. Let it pass: the engine
            ends the job.
    """
    pulse = _current.get()
    if pulse is not None:
        pulse.beat()


@contextmanager
def waiting() -> Iterator[None]:
    """Count the time inside as waiting for others; does nothing outside of an operation."""
    pulse = _current.get()
    if pulse is None:
        yield
        return
    with pulse.waiting():
        yield
