"""Which part of a job's time its marks take."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from koma.bench.finding import Bar, Table
from koma.bench.plan import Plan
from koma.models import registry
from koma.provenance.settings import Settings
from koma.provenance.stamp import Marks, Unmarked
from koma.provenance.step import Provenance
from koma.runtime.runner import Output, Request, Runner, State

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
    """Run one job of each family with the defaults of its checkpoint; finish it with and without marks."""
    rows, bars = [], []
    for family, (task, params) in JOBS.items():
        plan.say(f"{family}: the share of the marks in a job of {SIDE} pixels")
        runner = registry.load(
            family, "emoji", "cpu", "float32", 1, {"maxima": {"width": SIDE, "height": SIDE}}
        )
        asked = {**params, "width": SIDE, "height": SIDE, "seed": plan.seed}
        checked = runner.tasks[task].params.model_validate(asked)
        folder = plan.folder("marks")
        state, seconds = _stepped(runner, Request("share", task, checked, {}, folder))
        provenance = Provenance.open(Settings(folder / "keys"), runner.loaded, "bench")
        plain, marked = _finished(plan, runner, state, [Unmarked(), provenance])
        share = (marked - plain) / (seconds + marked)
        job_ms, marks_ms = 1000 * (seconds + plain), 1000 * (marked - plain)
        rows.append([family, f"{job_ms:.0f}", f"{marks_ms:.0f}", f"{share:.1%}"])
        bars.append(Bar(f"{family}: at most {MOST:.0%} of a job at {SIDE} px", f"{share:.1%}", share <= MOST))
    return Table(f"Share of a job, {SIDE} px", ["family", "job ms", "marks ms", "share"], rows), bars


def _stepped(runner: Runner, request: Request) -> tuple[State, float]:
    began = time.perf_counter()
    state = runner.prepare(request)
    while not state.done:
        runner.step([state])
    return state, time.perf_counter() - began


def _finished(plan: Plan, runner: Runner, state: State, ways: Sequence[Marks]) -> list[float]:
    """Return the median seconds of each way; the rounds of all alternate."""
    taken: list[list[float]] = [[] for _ in ways]
    for _ in range(plan.pick(5, 1)):
        for way, times in zip(ways, taken, strict=True):
            times.append(_timed(lambda way=way: _finish(way, runner, state)))  # type: ignore[misc]
    return [median(times) for times in taken]


def _timed(action: Callable[[], None]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _finish(way: Marks, runner: Runner, state: State) -> None:
    with way.session(state.request) as session:
        outputs: list[Output] = session.sealed(runner.finish(state))
    for output in outputs:
        Path(str(output.path)).unlink()
