"""Cancel is looked at within every phase, and long phases of one job do not hold up those of others."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path

import pytest

from koma.port.messages import Done, Failed, Progress
from koma.port.messages import Preview as PreviewMessage
from koma.runtime.pulse import beat
from koma.runtime.runner import Loaded, Output, Preview, Request, Runner, State, TaskSpec
from koma.testing.scripted import TASK, RunningEngine, Script

FRAMES = 50


class FilmRunner(Runner):
    """Works frame by frame in every phase, and writes a file while it finishes.

    ``on_frame`` is called with phase, jobs and number of every frame.
    """

    preparers = 2

    def __init__(self) -> None:
        self.loaded = Loaded("film", "none", "0" * 64, "cpu", "none")
        outputs = {"log": "text/plain"}
        self.tasks: Mapping[str, TaskSpec] = {TASK: TaskSpec(Script, {}, outputs)}
        self.frames: Counter[tuple[str, str]] = Counter()
        self.on_frame: Callable[[str, tuple[str, ...], int], None] = lambda *_: None

    def _work(self, phase: str, *jobs: str) -> None:
        for number in range(FRAMES):
            beat()
            self.frames.update((phase, job) for job in jobs)
            self.on_frame(phase, jobs, number)

    def prepare(self, request: Request) -> State:
        self._work("prepare", request.id)
        return State(request, request.params.steps)

    def key(self, state: State) -> Hashable:
        return "film"

    def step(self, states: Sequence[State]) -> None:
        self._work("step", *(state.request.id for state in states))
        for state in states:
            state.step += 1
            state.done = state.step >= state.total

    def text(self, state: State) -> str:
        return ""

    def preview(self, state: State) -> Callable[[], Preview]:
        job = state.request.id

        def encode() -> Preview:
            self._work("preview", job)
            return Preview("image/png", b"x", 1, 1)

        return encode

    def finish(self, state: State) -> list[Output]:
        path = state.request.folder() / "log.txt"
        try:
            path.write_text("begun")
            self._work("finish", state.request.id)
        except BaseException:
            path.unlink()
            raise
        return [Output("log", "text/plain", path=path)]


def cancel_at(runner: FilmRunner, engine: RunningEngine, phase: str, number: int, *jobs: str) -> None:
    """Have ``jobs`` cancelled within a phase of the first of them."""

    def cancel(at: str, working: tuple[str, ...], frame: int) -> None:
        if at == phase and frame == number and jobs[0] in working:
            for job in jobs:
                engine.engine.cancel(job)

    runner.on_frame = cancel


@pytest.mark.parametrize("phase", ["prepare", "step", "finish"])
def test_a_job_cancelled_within_a_phase_ends_with_the_frame_that_is_being_worked_on(
    tmp_path: Path, phase: str, caplog: pytest.LogCaptureFixture
) -> None:
    runner = FilmRunner()
    with caplog.at_level(logging.WARNING), RunningEngine(runner, tmp_path, slots=1) as engine:
        cancel_at(runner, engine, phase, 7, "a")
        engine.submit("a", steps=1)
        assert engine.wait_for(Failed, "a").code == "cancelled"
        engine.submit("next", steps=1)
        engine.wait_for(Done, "next")
        assert engine.engine.busy_ms() == 0
        engine.engine.drain()
        engine.join()
    assert runner.frames[phase, "a"] == 8
    assert len(engine.of("a", Done, Failed)) == 1
    assert caplog.records == [], "a cancel is no failure"
    assert [path.parent.name for path in tmp_path.rglob("*") if path.is_file()] == ["next-1"]


def test_a_preview_of_a_cancelled_job_ends_with_its_frame_and_the_next_job_is_shown(tmp_path: Path) -> None:
    runner = FilmRunner()
    with RunningEngine(runner, tmp_path) as engine:
        ended = threading.Event()

        def cancel(phase: str, jobs: tuple[str, ...], frame: int) -> None:
            if (phase, jobs, frame) == ("preview", ("a",), 7):
                engine.engine.cancel("a")
                ended.wait(20)

        runner.on_frame = cancel
        engine.submit("a", steps=1000, previews=True)
        assert engine.wait_for(Failed, "a").code == "cancelled"
        ended.set()
        engine.submit("b", steps=1000, previews=True)
        engine.wait_for(PreviewMessage, "b")
        engine.engine.cancel("b")
        engine.wait_for(Failed, "b")
    assert runner.frames["preview", "a"] == 8


@pytest.mark.parametrize("cancelled", [["a"], ["a", "b"]])
def test_a_shared_step_ends_early_only_where_all_of_its_jobs_are_cancelled(
    tmp_path: Path, cancelled: list[str]
) -> None:
    runner = FilmRunner()
    both = threading.Event()
    with RunningEngine(runner, tmp_path) as engine:

        def together(phase: str, jobs: tuple[str, ...], frame: int) -> None:
            if phase == "step" and len(jobs) == 2 and frame == 7 and not both.is_set():
                both.set()
                runner.frames.clear()
                for job in cancelled:
                    engine.engine.cancel(job)

        runner.on_frame = together
        for job in ("a", "b"):
            engine.submit(job, steps=500)
        ends = engine.wait_for_ends(["a", "b"])
    assert sorted(job for job, end in ends.items() if isinstance(end, Failed)) == cancelled
    # The rest of the shared step, or nothing; a row that goes on has further steps.
    assert runner.frames["step", "a"] == (FRAMES - 8 if cancelled == ["a"] else 0)
    assert (runner.frames["step", "b"] > 0) == (cancelled == ["a"])


def test_a_new_attempt_ends_the_work_of_the_one_it_replaces(tmp_path: Path) -> None:
    runner = FilmRunner()
    with RunningEngine(runner, tmp_path) as engine:

        def replace(phase: str, jobs: tuple[str, ...], frame: int) -> None:
            if (phase, frame, runner.frames["prepare", "a"]) == ("prepare", 7, 8):
                engine.submit("a", attempt=2, steps=1)

        runner.on_frame = replace
        engine.submit("a", steps=1)
        engine.wait_for(Done, "a")
        engine.engine.drain()
        engine.join()
    assert runner.frames["prepare", "a"] == 8 + FRAMES
    assert len(engine.of("a", Done, Failed)) == 1


def test_two_long_preparations_do_not_keep_a_short_one_waiting(tmp_path: Path) -> None:
    runner = FilmRunner()
    short_is_done = threading.Event()

    def hold(phase: str, jobs: tuple[str, ...], frame: int) -> None:
        if phase == "prepare" and jobs[0].startswith("long") and not short_is_done.wait(20):
            raise AssertionError("the short job waited for the long ones")

    runner.on_frame = hold
    with RunningEngine(runner, tmp_path) as engine:
        for job in ("long 1", "long 2"):
            engine.submit(job, steps=1)
            engine.wait_for(Progress, job, phase="prepare")
        engine.submit("short", steps=1)
        engine.wait_for(Done, "short")
        short_is_done.set()
        engine.wait_for_all(Done, ["long 1", "long 2"])


def test_an_operation_that_beats_is_never_silent_for_long_and_one_that_does_not_is(tmp_path: Path) -> None:
    runner = FilmRunner()
    silences: list[int] = []
    with RunningEngine(runner, tmp_path) as engine:

        def age(phase: str, jobs: tuple[str, ...], frame: int) -> None:
            """Let 100 seconds pass in each frame."""
            if phase == "prepare":
                for pulse in engine.engine._activity._pulses.values():
                    pulse.beaten_at -= 100
                silences.append(engine.engine.busy_ms())

        runner.on_frame = age
        engine.submit("a", steps=1)
        engine.wait_for(Done, "a")
    assert len(silences) == FRAMES
    assert min(silences) >= 100_000
    assert max(silences) < 150_000, "5,000 seconds in all, but a beat after each 100"
