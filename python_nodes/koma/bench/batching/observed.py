"""``python -m koma.bench.batching.observed``: the model node of ``koma.port``, whose forwards are noted.

Each forward appends its number of rows as a line to the file ``KOMA_BENCH_ROWS``. Koma itself is untouched:
the measurement starts its model nodes through a script that runs this in place of ``koma.port``.
"""

from __future__ import annotations

import os
import runpy
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from koma.models import registry
from koma.runtime.runner import Runner, State

VARIABLE = "KOMA_BENCH_ROWS"


def interpreter(folder: Path) -> Path:
    """Write a script that a server may use as ``KOMA_PYTHON``."""
    path = folder / "observed.sh"
    # The gateway calls it with "-m koma.port".
    path.write_text(f'#!/bin/sh\nshift 2\nexec "{sys.executable}" -m koma.bench.batching.observed "$@"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def _observing(load: Callable[..., Runner]) -> Callable[..., Runner]:
    def observed(*arguments: Any, **named: Any) -> Runner:
        runner: Any = load(*arguments, **named)
        step, rows = runner.step, open(os.environ[VARIABLE], "a", buffering=1)  # noqa: SIM115

        def noted(states: Sequence[State]) -> None:
            step(states)
            rows.write(f"{len(states)}\n")

        runner.step = noted
        return runner

    return observed


if __name__ == "__main__":
    registry.load = _observing(registry.load)
    runpy.run_module("koma.port", run_name="__main__", alter_sys=True)
