"""Which part of a job's time its marks take."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from koma.bench.finding import Bar, Table
from koma.bench.plan import Plan
from koma.models import registry
from koma.provenance import stamp
from koma.provenance.settings import Settings
from koma.provenance.stamp import Frames, Stamp
from koma.provenance.step import Provenance, Session
from koma.runtime.runner import Output, Request, Runner, State

T = TypeVar("T")
SIDE = 512
JOBS: dict[str, tuple[str, dict[str, Any]]] = {
    "amused": ("image.generate", {"prompt": "a sailboat on the sea"}),
    "ltx_video": ("video.generate", {"prompt": "a sailboat on the sea", "frames": 17}),
}
OPTIONS = {"maxima": {"width": SIDE, "height": SIDE}}
"""The checkpoints that ship make smaller pictures unless they are told otherwise."""
MOST = 0.03
"""Of a job's time at 512 pixels."""


def measure(plan: Plan) -> tuple[Table, list[Bar]]:
    """Run one job of each family with the defaults of its checkpoint, and time what marks add to its end."""
    rows, bars = [], []
    for family, (task, params) in JOBS.items():
        plan.say(f"{family}: the share of the marks in a job of {SIDE} pixels")
        runner = registry.load(family, "emoji", "cpu", "float32", 1, OPTIONS)
        asked = {**params, "width": SIDE, "height": SIDE, "seed": plan.seed}
        checked = runner.tasks[task].params.model_validate(asked)
        folder = plan.folder("marks")
        provenance = Provenance.open(Settings(folder / "keys"), runner.loaded, "bench")
        began = time.perf_counter()
        state = _stepped(runner, Request("share", task, checked, {}, folder))
        marks = _Timed(Session(provenance, state.request))
        with stamp.stamping(marks):
            outputs = marks.sealed(runner.finish(state))
        job = time.perf_counter() - began
        for output in outputs:
            Path(str(output.path)).unlink()
        share = marks.seconds / job
        rows.append([family, f"{1000 * job:.0f}", f"{1000 * marks.seconds:.0f}", f"{share:.2%}"])
        bars.append(Bar(f"{family}: at most {MOST:.0%} of a job at {SIDE} px", f"{share:.2%}", share <= MOST))
    return Table(f"Share of a job, {SIDE} px", ["family", "job ms", "marks ms", "share"], rows), bars


def _stepped(runner: Runner, request: Request) -> State:
    state = runner.prepare(request)
    while not state.done:
        runner.step([state])
    return state


class _Timed:
    """The marks of one job, and how long they take."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.seconds = 0.0

    def begin(self, frames: Frames, path: Path) -> Stamp:
        """Begin a file; its frames are timed, too."""
        mark = self._time(lambda: self._session.begin(frames, path))
        return lambda frame: self._time(lambda: mark(frame))

    def sealed(self, outputs: list[Output]) -> list[Output]:
        """Sign the files."""
        return self._time(lambda: self._session.sealed(outputs))

    def _time(self, action: Callable[[], T]) -> T:
        began = time.perf_counter()
        try:
            return action()
        finally:
            self.seconds += time.perf_counter() - began
