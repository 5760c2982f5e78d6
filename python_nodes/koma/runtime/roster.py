"""The jobs that an engine holds: who may enter, who has a slot, and the one place where a job ends."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from koma.errors import KomaError
from koma.port.messages import Accepted, Failed, NodeMessage
from koma.runtime.job import Job, Phase

Emit = Callable[[NodeMessage], None]


class Roster:
    """Jobs by id. Every method may be called from any thread; messages go out in the order of the changes.

    At most ``slots`` jobs are being prepared, stepped or finished; as many again may wait inside.
    """

    def __init__(
        self, slots: int, emit: Emit, admit: Callable[[Job], None], changed: Callable[[], None]
    ) -> None:
        self.slots = slots
        self._emit, self._admit, self._changed = emit, admit, changed
        self._lock = threading.RLock()
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._admitted: set[Job] = set()
        self._draining = False

    def enter(self, job: Job, estimate_ms: int) -> None:
        """Take a job and say ``accepted``; raises KomaError ``draining``, ``conflict`` or ``overloaded``.

        A greater attempt of a job that is still here takes its place: the earlier one ends without a word.
        """
        with self._lock:
            self._check(job)
            earlier = self._jobs.get(job.id)
            if earlier is not None:
                earlier.superseded = True
                self._cancel(earlier)
            self._jobs[job.id] = job
            self._waiting.append(job)
            self._emit(Accepted(job.id, job.request.attempt, job.total, estimate_ms))
            self._fill_slots()
            self._changed()

    def begin(self, job: Job, phase: Phase) -> bool:
        """Move a job on to ``phase``; False where it was closed or cancelled, in which case it is closed
        now."""
        with self._lock:
            if job.cancelled:
                self.close(job, _cancelled(job))
            if job.phase is Phase.CLOSED:
                return False
            job.phase = phase
            return True

    def say(self, job: Job, message: NodeMessage) -> None:
        """Send a message about a job, unless its terminal message went out already."""
        with self._lock:
            if job.phase is not Phase.CLOSED and not job.superseded:
                self._emit(message)

    def close(self, job: Job, message: NodeMessage) -> bool:
        """End a job with its terminal message, free its slot and its state; False where it ended before.

        A job that was cancelled in the meantime ends as cancelled, whatever came of it.
        """
        with self._lock:
            if job.phase is Phase.CLOSED:
                return False
            job.phase, job.state = Phase.CLOSED, None
            if not job.superseded:
                self._emit(_cancelled(job) if job.cancelled else message)
            self._forget(job)
            return not job.cancelled

    def cancel(self, job_id: str) -> None:
        """Mark a job; it ends now where nothing of it runs, else at the next boundary. Unknown ids are
        ignored."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is not None:
                self._cancel(job)

    def drain(self) -> None:
        """Take no more jobs. Takes no lock, so that a signal handler may call it."""
        self._draining = True
        self._changed()

    def is_drained(self) -> bool:
        """Whether no job is here and none will come."""
        with self._lock:
            return self._draining and not self._jobs and not self._admitted

    def counts(self) -> tuple[int, int]:
        """Return how many jobs have a slot and how many wait for one."""
        with self._lock:
            return len(self._admitted), len(self._waiting)

    def _check(self, job: Job) -> None:
        if self._draining:
            raise KomaError("draining", "the model node takes no more jobs")
        earlier = self._jobs.get(job.id)
        if earlier is not None and earlier.request.attempt >= job.request.attempt:
            attempt = earlier.request.attempt
            raise KomaError(
                "conflict",
                f"job {job.id} is here already, attempt {attempt}",
                field="attempt",
                value=job.request.attempt,
                bound=attempt,
            )
        if len(self._waiting) >= self.slots:
            raise KomaError(
                "overloaded",
                f"all {self.slots} slots are taken and {len(self._waiting)} jobs wait",
                field="slots",
                value=len(self._admitted) + len(self._waiting),
                bound=2 * self.slots,
            )

    def _cancel(self, job: Job) -> None:
        job.cancelled = True
        if job.phase is Phase.WAITING:
            self.close(job, _cancelled(job))

    def _forget(self, job: Job) -> None:
        if self._jobs.get(job.id) is job:
            del self._jobs[job.id]
        if job in self._waiting:
            self._waiting.remove(job)
        self._admitted.discard(job)
        self._fill_slots()
        self._changed()

    def _fill_slots(self) -> None:
        while self._waiting and len(self._admitted) < self.slots:
            job = self._waiting.popleft()
            self._admitted.add(job)
            self._admit(job)


def _cancelled(job: Job) -> Failed:
    return Failed(job.id, "job", "cancelled", "the job was cancelled")
