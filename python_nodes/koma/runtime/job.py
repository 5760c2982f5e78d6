"""One job inside the engine."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum

from koma.runtime.runner import Request, State


class Phase(Enum):
    """Where a job is; ``CLOSED``: its terminal message went out."""

    WAITING = "waiting"
    PREPARING = "preparing"
    STEPPING = "stepping"
    FINISHING = "finishing"
    CLOSED = "closed"


@dataclass(eq=False)
class Job:
    """What the engine knows of one job. ``phase`` and ``cancelled`` change only under the engine's lock."""

    request: Request
    previews: bool
    total: int
    phase: Phase = Phase.WAITING
    cancelled: bool = False
    superseded: bool = False
    """A greater attempt took the id over: nothing more is said of this one."""
    state: State | None = None
    key: Hashable = None
    """What it shares forwards by, since its last step."""
    steps_seen: int = 0
    tokens: int = 0
    preview_pending: bool = False
    previewed_at: float = 0.0
    began_at: float = field(default_factory=time.monotonic)
    timings: dict[str, float] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The job's id."""
        return self.request.id

    @property
    def running_state(self) -> State:
        """The state of a job that has been prepared and is not closed."""
        if self.state is None:
            raise RuntimeError(f"job {self.id} has no state in phase {self.phase.value}")
        return self.state

    def add_time(self, name: str, ms: float) -> None:
        """Add to one of the timings."""
        self.timings[name] = self.timings.get(name, 0.0) + ms

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Measure a phase."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.add_time(name, (time.monotonic() - started) * 1000)

    def age_ms(self) -> float:
        """Milliseconds since the job was submitted."""
        return (time.monotonic() - self.began_at) * 1000
