"""The engine of a model node: in-flight batching. Jobs join and leave between any two forwards.

    submit → slot → prepare (thread) → step, step, … (the caller's thread, batched by key) → finish (thread)
    → done

Whatever goes wrong with one job ends that job alone; see :mod:`koma.runtime.failures`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from koma.errors import KomaError
from koma.port.limits import MAX_FRAME
from koma.port.messages import Done, Preview, Progress, Stats, Submit, Token
from koma.port.messages import Phase as ProgressPhase
from koma.provenance.stamp import Marks, Unmarked
from koma.runtime import intake, memory, results
from koma.runtime import runner as contract
from koma.runtime.batches import BatchCaps, Batches
from koma.runtime.failures import FAILURES, NodeBroken, failed, is_expected
from koma.runtime.job import Job, Phase
from koma.runtime.pace import Pace, PreviewPace
from koma.runtime.pulse import Cancelled
from koma.runtime.roster import Emit, Roster
from koma.runtime.runner import Runner
from koma.runtime.workers import Activity, Worker

PREVIEW_INTERVAL_S = 0.1
"""Least time between two previews of one job: ten pictures a second look like a film."""
PREPARE_PATIENCE_S = 0.5
"""How long a preparation may keep others waiting: decoding a short clip takes a tenth of a second."""
STATS_BUSY_S, STATS_IDLE_S = 1.0, 10.0
MAX_PREVIEW = MAX_FRAME - 64 * 1024
"""Bytes of a preview that surely fits into a frame."""

_log = logging.getLogger(__name__)


class Engine:
    """Runs the jobs of one :class:`Runner`.

    ``run`` belongs to one thread; every other public method may be called from any thread. ``emit`` is
    called from several threads and must be safe for that. What is emitted inside ``together()`` may be sent
    at its end.
    """

    def __init__(
        self,
        runner: Runner,
        slots: int,
        emit: Emit,
        preview_interval_s: float = PREVIEW_INTERVAL_S,
        together: Callable[[], AbstractContextManager[None]] = nullcontext,
        marks: Marks | None = None,
    ) -> None:
        self._runner = runner
        self._emit = emit
        self._together = together
        self._marks = marks or Unmarked()
        self._preview_interval_s = preview_interval_s
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._batches: Batches[Job] = Batches()
        self._caps = BatchCaps(slots)
        self._pace = Pace()
        self._preview_pace = PreviewPace()
        self._activity = Activity()
        self._preparer = Worker(
            "prepare", self._prepare, slots, at_once=runner.preparers, patience_s=PREPARE_PATIENCE_S
        )
        self._finisher = Worker("finish", self._finish)
        self._previewer: Worker[tuple[Job, int, Callable[[], contract.Preview]]] = Worker(
            "preview", self._picture
        )
        self._roster = Roster(slots, emit, self._preparer.put, self._wake)
        self._stopping = False
        self._forwards = self._rows = self._last_batch = 0
        self._stats_at = -STATS_IDLE_S
        self._told = (0, 0, 0)

    # Called by the reader of the port.

    def submit(self, message: Submit) -> None:
        """Check a job and take it, or answer it with ``failed``."""
        try:
            request = intake.read(message, self._runner.tasks)
            total = max(0, self._runner.tasks[request.task].steps(request.params))
            job = Job(request, message.previews, total)
            self._roster.enter(job, self._estimate_ms(job))
        except Exception as error:
            if not is_expected(error):
                about = {"job": message.id}
                _log.error("the request of job %s could not be read", message.id, exc_info=error, extra=about)
            self._emit(failed(message.id, error))

    def cancel(self, job_id: str) -> None:
        """Stop a job at its next boundary."""
        self._roster.cancel(job_id)

    def drain(self) -> None:
        """Take no more jobs; ``run`` returns when those here have ended."""
        self._roster.drain()

    def stop(self) -> None:
        """Make ``run`` return after the current forward; nobody is left to be answered."""
        self._stopping = True
        self._wake()

    def count(self, task: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return how much of each prompt in ``params`` the model would read; nothing for an unknown task."""
        spec = self._runner.tasks.get(task)
        return {} if spec is None else spec.count(params)

    def busy_ms(self) -> int:
        """How long the most silent operation of the runner has not beaten; 0 when idle."""
        return self._activity.busy_ms()

    def stats(self) -> Stats:
        """Return the counters since the start."""
        running, waiting = self._roster.counts()
        return Stats(
            running,
            waiting,
            self._roster.slots,
            self._forwards,
            self._rows,
            self._last_batch,
            round(self._pace.last_step_ms, 3),
            memory.resident_bytes(),
            memory.device_bytes(),
        )

    # The loop.

    def run(self) -> None:
        """Run jobs until drained or stopped; raises NodeBroken where the process cannot go on."""
        try:
            while not self._stopping and not self._roster.is_drained():
                with self._together():
                    self._collect()
                    self._drop_cancelled()
                if self._batches:
                    key = self._batches.first_key()
                    self._forward(key, self._batches.take(self._caps[key].value))
                self._report()
        finally:
            for worker in (self._preparer, self._finisher, self._previewer):
                worker.stop()

    def _wake(self) -> None:
        self._inbox.put(lambda: None)

    def _collect(self) -> None:
        """Take in what the other threads left; waits where there is nothing to step."""
        try:
            if not self._batches:
                self._inbox.get(timeout=max(0.0, self._stats_due() - time.monotonic()))()
            while True:
                self._inbox.get_nowait()()
        except Empty:
            return

    def _join(self, job: Job) -> None:
        if self._roster.begin(job, Phase.STEPPING):
            job.total = job.running_state.total
            prompts = job.running_state.prompts or None
            self._say_progress(job, "step", self._estimate_ms(job), prompts)
            self._guard(job, self._continue)

    def _drop_cancelled(self) -> None:
        for job in self._batches:
            if job.cancelled:
                self._batches.remove(job)
                self._roster.begin(job, Phase.STEPPING)

    def _stats_due(self) -> float:
        # Once more soon after the last job: else its numbers would be ten seconds old.
        running, waiting = self._roster.counts()
        busy = running or waiting or self._told != (0, 0, self._forwards)
        return self._stats_at + (STATS_BUSY_S if busy else STATS_IDLE_S)

    def _report(self) -> None:
        if time.monotonic() >= self._stats_due():
            stats = self.stats()
            self._stats_at = time.monotonic()
            self._told = (stats.running, stats.waiting, stats.forwards)
            self._emit(stats)

    # Steps.

    def _forward(self, key: Hashable, jobs: list[Job]) -> None:
        """One forward for ``jobs``; on an error the rows run apart, so that only the culprit pays for it."""
        jobs = [job for job in jobs if self._roster.begin(job, Phase.STEPPING)]
        if not jobs:
            return
        started = time.monotonic()
        error = self._step(jobs)
        if error is None:
            with self._together():
                self._stepped(key, jobs, (time.monotonic() - started) * 1000)
        elif memory.is_out_of_memory(error) and len(jobs) > 1:
            self._shrink(key, jobs, error)
        elif len(jobs) == 1 or isinstance(error, Cancelled):
            for job in jobs:
                self._fail(job, error)
        else:
            _log.warning("a batch of %d raised %s; its rows run apart", len(jobs), type(error).__name__)
            for job in jobs:
                self._forward(key, [job])

    def _step(self, jobs: list[Job]) -> BaseException | None:
        self._forwards += 1
        self._rows += len(jobs)
        self._last_batch = len(jobs)
        try:
            with self._operation(*jobs):
                self._runner.step([job.running_state for job in jobs])
        except FAILURES as error:
            return error
        return None

    def _shrink(self, key: Hashable, jobs: list[Job], error: BaseException) -> None:
        memory.release(error)
        self._caps[key].failed(len(jobs))
        _log.warning(
            "a batch of %d did not fit into memory; its cap is %d now", len(jobs), self._caps[key].value
        )
        self._batches.put_back(key, jobs)

    def _stepped(self, key: Hashable, jobs: list[Job], ms: float) -> None:
        self._pace.forward(key, len(jobs), ms)
        self._caps[key].succeeded(len(jobs))
        for job in jobs:
            job.add_time("steps_ms", ms)
            job.add_time("forwards", 1)
            self._guard(job, self._advance)
        stepping = [job for job in jobs if job.phase is Phase.STEPPING]
        for job in stepping:
            self._say_progress(job, "step", self._remaining_ms(job))
        # Who has waited longest for a picture gets the next one.
        for job in sorted(stepping, key=lambda job: job.previewed_at):
            self._guard(job, partial(self._maybe_preview, jobs=len(stepping)))

    def _advance(self, job: Job) -> None:
        state = job.running_state
        if state.step <= job.steps_seen and not state.done:
            raise KomaError("model_failed", f"the runner did not advance beyond step {state.step}")
        job.steps_seen = state.step
        text = self._runner.text(state)
        if text:
            self._roster.say(job, Token(job.id, job.tokens, text))
            job.tokens += 1
        self._continue(job)

    def _continue(self, job: Job) -> None:
        state = job.running_state
        if not state.done:
            job.key = self._runner.key(state)
            self._batches.add(job.key, job)
        elif self._roster.begin(job, Phase.FINISHING):
            self._say_progress(job, "finish", self._pace.phase_ms(job.request.task, "finish"))
            self._finisher.put(job)

    def _say_progress(
        self, job: Job, phase: ProgressPhase, eta_ms: float, prompts: Mapping[str, Any] | None = None
    ) -> None:
        self._roster.say(job, Progress(job.id, phase, job.steps_seen, job.total, round(eta_ms), prompts))

    def _operation(self, *jobs: Job) -> AbstractContextManager[None]:
        """An operation of the runner: unwanted once all of its ``jobs`` were cancelled."""
        return self._activity.operation(lambda: all(job.cancelled for job in jobs))

    def _guard(self, job: Job, action: Callable[[Job], None]) -> None:
        """Do something for one job on the engine's thread; an exception ends that job."""
        try:
            with self._operation(job):
                action(job)
        except FAILURES as error:
            self._drop(job, error)

    def _drop(self, job: Job, error: BaseException) -> None:
        self._batches.remove(job)
        self._fail(job, error)

    def _fail(self, job: Job, error: BaseException) -> None:
        if job.phase is Phase.CLOSED:  # a late preview of a job that has its result
            return
        if not (is_expected(error) or (isinstance(error, Cancelled) and job.cancelled)):
            _log.error(
                "job %s failed in phase %s", job.id, job.phase.value, exc_info=error, extra={"job": job.id}
            )
        if memory.is_device_lost(error):
            self._inbox.put(partial(_give_up, failed(job.id, error).message))
            return
        self._roster.close(job, failed(job.id, error))
        if memory.is_out_of_memory(error):
            memory.release(error)

    # Work beside the loop.

    def _prepare(self, job: Job) -> None:
        if not self._roster.begin(job, Phase.PREPARING):
            return
        job.add_time("wait_ms", job.age_ms())
        self._say_progress(job, "prepare", self._estimate_ms(job))
        try:
            with self._operation(job), job.timed("prepare_ms"):
                job.state = self._runner.prepare(job.request)
        except FAILURES as error:
            self._fail(job, error)
            return
        if self._roster.begin(job, Phase.PREPARING):
            self._pace.phase(job.request.task, "prepare", job.timings["prepare_ms"])
            self._inbox.put(partial(self._join, job))

    def _finish(self, job: Job) -> None:
        if not self._roster.begin(job, Phase.FINISHING):
            return
        outputs: list[contract.Output] = []
        try:
            marking = self._marks.session(job.request)
            with self._operation(job), job.timed("finish_ms"), marking as session:
                outputs = self._runner.finish(job.running_state)
                outputs = session.sealed(outputs)
                references = results.collect(outputs, job.request)
        except FAILURES as error:
            results.discard(outputs)
            self._fail(job, error)
            return
        self._learn(job)
        timings = {name: round(value, 3) for name, value in job.timings.items()}
        seed = int(getattr(job.request.params, "seed", 0))
        if job.cancelled or not self._roster.close(job, Done(job.id, references, seed, timings)):
            results.discard(references)
            self._roster.begin(job, Phase.FINISHING)

    def _learn(self, job: Job) -> None:
        job.add_time("total_ms", job.age_ms())
        task, steps_ms = job.request.task, job.timings.get("steps_ms", 0.0)
        self._pace.phase(task, "finish", job.timings["finish_ms"])
        self._pace.phase(task, "steps", steps_ms)
        self._pace.phase(task, "step", steps_ms / max(1, job.steps_seen))

    def _maybe_preview(self, job: Job, jobs: int) -> None:
        now = time.monotonic()
        if not job.previews or job.preview_pending or now - job.previewed_at < self._preview_interval_s:
            return
        if not self._preview_pace.take(now, jobs):
            return
        job.previewed_at = now
        made = self._runner.preview(job.running_state)
        if made is not None:
            job.preview_pending = True
            self._previewer.put((job, job.steps_seen, made if callable(made) else partial(_same, made)))

    def _picture(self, item: tuple[Job, int, Callable[[], contract.Preview]]) -> None:
        job, step, encode = item
        began = time.monotonic()
        try:
            with self._activity.operation(lambda: job.cancelled or job.phase is Phase.CLOSED):
                made = encode()
        except Cancelled:
            return
        except FAILURES as error:
            self._inbox.put(partial(self._drop, job, error))
            return
        self._preview_pace.took(time.monotonic() - began)
        job.preview_pending = False
        if len(made.data) > MAX_PREVIEW:
            text = "a preview of %d bytes was dropped; at most %d fit"
            _log.warning(text, len(made.data), MAX_PREVIEW, extra={"job": job.id})
            return
        self._roster.say(job, Preview(job.id, step, made.media_type, made.data, made.width, made.height))

    # Estimates.

    def _estimate_ms(self, job: Job) -> int:
        task = job.request.task
        steps = job.total * self._pace.phase_ms(task, "step") or self._pace.phase_ms(task, "steps")
        return round(self._pace.phase_ms(task, "prepare") + steps + self._pace.phase_ms(task, "finish"))

    def _remaining_ms(self, job: Job) -> float:
        state = job.running_state
        rows = self._batches.sizes()
        caps = {key: self._caps[key].value for key in rows}
        interval = self._pace.interval_ms(job.key, rows, caps)
        return max(0, state.total - state.step) * interval + self._pace.phase_ms(job.request.task, "finish")


def _same(preview: contract.Preview) -> contract.Preview:
    return preview


def _give_up(reason: str) -> None:
    raise NodeBroken(reason)
