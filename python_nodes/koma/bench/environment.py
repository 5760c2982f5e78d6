"""``.venv-bench``: the packages that only a comparison needs, apart from Koma's own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from koma.bench.plan import Plan
from koma.cli.server_process import home


def python() -> Path:
    """Return the interpreter of ``.venv-bench``, which may not be there."""
    return home() / ".venv-bench" / "bin" / "python"


def available() -> bool:
    """Whether ``scripts/setup.sh bench`` was run."""
    return python().is_file()


def draw_plots(plan: Plan) -> None:
    """Draw the plots of all findings so far; without the environment there are none."""
    if not available():
        plan.say("no plots: .venv-bench is not there (scripts/setup.sh bench)")
        return
    command = [str(python()), "-m", "koma.bench.plots", str(plan.out), str(plan.images)]
    environment = {**os.environ, "PYTHONPATH": str(home() / "python_nodes")}
    subprocess.run(command, env=environment, check=False)
