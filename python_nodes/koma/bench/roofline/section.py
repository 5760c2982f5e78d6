"""The section ``roofline``: what bounds a step of each family, and what batching can give at most."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from koma.bench import setting as settings
from koma.bench.finding import Finding, Table
from koma.bench.plan import Plan
from koma.bench.roofline import ceilings, counts
from koma.bench.roofline.ceilings import Ceilings
from koma.bench.setting import FAMILIES, SLOTS, Setting
from koma.bench.workload import Request, Workload
from koma.models import registry
from koma.models.device import DTYPES
from koma.runtime import runner as contract
from koma.runtime.runner import Runner, State

_TIMED = 3
"""Steps that are timed, after a first one; with two that are counted, as many as the shortest request has."""

TEXT = """One step of a model node's runner by itself, without gateway, engine and previews. Operations
are those of matrix products, convolutions and attention; bytes are the weights and states read, each once.
"At best" is what the machine needs for as many operations at the rate of a large matrix product, or for as
many bytes at the rate of a large copy, whichever is longer. "Eight together" is how many times more a batch
of eight gets done than eight steps of one row: what sharing forwards can give at most where only steps are
shared."""


@dataclass(frozen=True)
class Step:
    """One forward of so many rows."""

    rows: int
    seconds: float
    operations: int
    bytes: int


def measure(plan: Plan) -> Finding:
    """Measure the checkpoints that ship."""
    finding = Finding("roofline", "What bounds a step", TEXT)
    measure_steps(plan, settings.emoji(), finding)
    return finding


def measure_steps(plan: Plan, setting: Setting, finding: Finding) -> None:
    """Measure a step of one and of eight rows of each family of ``setting``, and add them to ``finding``."""
    device = torch.device(setting.device)
    best = ceilings.measure(device, DTYPES[setting.dtype])
    rows = []
    for family in FAMILIES:
        plan.say(f"{family}: steps of 1 and of {SLOTS} rows")
        one, many = _steps(plan, setting, family)
        rows += [_row(family, one, best, ""), _row(family, many, best, _gain(one, many))]
    head = ["family", "rows", "GFLOP", "MB read", "ms", "at best ms", "of that", "eight together"]
    title = f"{best.operations / 1e9:.0f} GFLOP/s and {best.bytes / 1e9:.1f} GB/s at best, {setting.dtype}"
    finding.tables.append(Table(title, head, rows))


def _steps(plan: Plan, setting: Setting, family: str) -> tuple[Step, Step]:
    """Return a step of one row and one of as many as there are slots."""
    runner = registry.load(family, setting.checkpoints[family], setting.device, setting.dtype, SLOTS, {})
    workload = Workload(plan.random(f"roofline/{family}"), plan.folder("clips"), setting)
    device = torch.device(setting.device)
    one, many = (
        _step(runner, [_state(plan, runner, request) for request in workload.requests(family, rows)], device)
        for rows in (1, SLOTS)
    )
    return one, many


def _step(runner: Runner, states: Sequence[State], device: torch.device) -> Step:
    taken = ceilings.seconds(lambda: runner.step(states), device, median, _TIMED)
    return Step(
        len(states),
        taken,
        counts.operations(lambda: runner.step(states)),
        counts.bytes_read(lambda: runner.step(states)),
    )


def _state(plan: Plan, runner: Runner, request: Request) -> State:
    params = runner.tasks[request.task].params.model_validate(request.params)
    inputs = {}
    if request.clip is not None:
        path = Path(request.clip)
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        inputs = {"video": contract.InputFile(path, digest, "video/mp4", len(data))}
    return runner.prepare(contract.Request("roofline", request.task, params, inputs, plan.folder("results")))


def _row(family: str, step: Step, best: Ceilings, gain: str) -> list[str]:
    least = best.seconds(step.operations, step.bytes)
    return [
        family,
        str(step.rows),
        f"{step.operations / 1e9:.2f}",
        f"{step.bytes / 1e6:.1f}",
        f"{1000 * step.seconds:.1f}",
        f"{1000 * least:.1f}",
        f"{100 * least / step.seconds:.0f} %",
        gain,
    ]


def _gain(one: Step, many: Step) -> str:
    return f"{many.rows * one.seconds / many.seconds:.2f}×"
