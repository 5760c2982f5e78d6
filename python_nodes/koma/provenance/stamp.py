"""The way from the writers of pictures and videos to the session of the job that they write for.

``koma.models.media.encode`` calls :func:`begin` before it encodes anything. Outside of a session, as in tests
that compare pixels with those of stock pipelines, nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol

from koma.runtime.runner import Output, Request

Pixels = Any
"""An array of bytes [height, width, 3], RGB. Named without numpy, which not every model node needs."""
Frames = Any
"""A list of pictures, or one array of them [frames, height, width, 3]."""
Stamp = Callable[[Pixels], Pixels]
"""Marks one picture or frame."""


class Stamps(Protocol):
    """Whoever knows what the marks of the current job say."""

    def begin(self, frames: Frames, path: Path) -> Stamp:
        """Return how the frames are marked that are about to be written to ``path``."""
        ...


class Sealing(Protocol):
    """The marks of one job."""

    def sealed(self, outputs: Sequence[Output]) -> list[Output]:
        """Sign the files of ``outputs``; raises KomaError ``provenance_failed`` where one bears no mark."""
        ...


class Marks(Protocol):
    """What the engine asks for the marks of each job; see :mod:`koma.provenance.step`."""

    def session(self, request: Request) -> AbstractContextManager[Sealing]:
        """Mark what is written inside."""
        ...


class Unmarked:
    """No marks: the operator wants none, or the family makes no media."""

    def session(self, request: Request) -> AbstractContextManager[Sealing]:
        """Change nothing."""
        return nullcontext(self)

    def sealed(self, outputs: Sequence[Output]) -> list[Output]:
        """Return the outputs as they are."""
        return list(outputs)


_current: ContextVar[Stamps | None] = ContextVar("koma_stamps", default=None)


@contextmanager
def stamping(stamps: Stamps) -> Iterator[None]:
    """Mark what is written inside."""
    token = _current.set(stamps)
    try:
        yield
    finally:
        _current.reset(token)


def begin(frames: Frames, path: Path) -> Stamp:
    """Return what every frame must go through before it is encoded to ``path``."""
    stamps = _current.get()
    return _same if stamps is None else stamps.begin(frames, path)


def _same(frame: Pixels) -> Pixels:
    return frame
