"""The section ``cancel``: from a cancel to the free machine, in each phase of the checkpoints that ship."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from random import Random
from statistics import median

from koma.bench.cancel import inputs
from koma.bench.cancel.phases import Case, cases
from koma.bench.finding import Bar, Finding, Table
from koma.bench.plan import Plan
from koma.port.messages import Cancel, Done, Failed, InputRef, Progress, Submit
from koma.testing.node_process import NodeProcess

BOUND_MS = 100
_SLOTS = 2

TEXT = f"""A model node is given a job and, at a random moment of one of its phases, a cancel; measured is
the time until it says `cancelled`, which frees the slot. Jobs that end before the cancel comes are left out.
Each has a prompt of its own, so that nothing is remembered of an earlier one. Demanded are {BOUND_MS} ms at
most."""


def measure(plan: Plan) -> Finding:
    """Measure phase by phase."""
    finding = Finding("cancel", "From a cancel to the free machine", TEXT)
    folder = plan.folder("cancel")
    files = {"video": inputs.clip(folder), "image": inputs.picture(folder)}
    rows, worst = [], 0.0
    for case in cases():
        lasts, waits = _Node(case, files, folder, plan.random(f"cancel/{case}")).measure(plan.pick(30, 5))
        rows.append(_row(case, lasts, waits))
        worst = max([worst, *waits])
        plan.say(" ".join(rows[-1]))
    head = ["family", "phase", "what", "lasts ms", "cancels", "median ms", "most ms"]
    finding.tables.append(Table("", head, rows))
    finding.bars.append(Bar(f"at most {BOUND_MS} ms in every phase", f"{worst:.0f} ms", worst <= BOUND_MS))
    return finding


def _row(case: Case, lasts: float, waits: list[float]) -> list[str]:
    figures = [f"{median(waits):.1f}", f"{max(waits):.1f}"] if waits else ["–", "–"]
    return [case.family, case.phase, case.what, f"{lasts:.0f}", str(len(waits)), *figures]


class _Node:
    """A model node that is given jobs of one case, one at a time."""

    def __init__(self, case: Case, files: Mapping[str, InputRef], folder: Path, random: Random) -> None:
        self._case, self._files, self._folder, self._random = case, files, folder, random
        self._jobs = 0

    def measure(self, count: int) -> tuple[float, list[float]]:
        """Milliseconds that the phase lasts, and those from each cancel to its answer."""
        with NodeProcess() as node:
            node.load(self._case.family, _SLOTS, "emoji")
            lasts = min(self._undisturbed(node) for _ in range(2))
            waits = [self._cancelled(node, lasts) for _ in range(count)]
        return lasts * 1000, [wait * 1000 for wait in waits if wait is not None]

    def _undisturbed(self, node: NodeProcess) -> float:
        job = self._begin(node)
        began = time.monotonic()
        following = node.wait_for(object, lambda said: _about(said, job) and not self._within(said))
        ended = time.monotonic()
        if not isinstance(following, Done):
            node.wait_for(Done)
        return ended - began

    def _cancelled(self, node: NodeProcess, lasts: float) -> float | None:
        job = self._begin(node)
        time.sleep(self._random.uniform(0, lasts))
        asked = time.monotonic()
        node.send(Cancel(job))
        end = node.wait_for(object, lambda said: isinstance(said, Done | Failed) and said.id == job)
        return time.monotonic() - asked if isinstance(end, Failed) else None

    def _begin(self, node: NodeProcess) -> str:
        """Submit a job and wait until it is in its phase."""
        self._jobs += 1
        job, case = f"job-{self._jobs}", self._case
        # A frame rate of its own as well: what was seen of a clip is remembered by it.
        params = {"prompt": f"a sailboat, number {self._jobs}", "seed": self._jobs, **case.params}
        if case.given == "video":
            params["fps"] = 1.5 + self._jobs / 1000
        folder = str(self._folder / job)
        node.send(Submit(job, 1, case.task, params, case.inputs(self._files), folder, False))
        node.wait_for(Progress, lambda said: said.id == job and self._within(said))
        return job

    def _within(self, said: object) -> bool:
        return isinstance(said, Progress) and said.phase == self._case.phase


def _about(said: object, job: str) -> bool:
    return isinstance(said, Progress | Done | Failed) and said.id == job
