"""``python -m koma.bench``: measure section by section, print the tables, write ``docs/benchmarks.md``.

The environment says what (``make bench ONLY=road,scale QUICK=1 SEED=7``). A section that fails is told and
the others go on; what was measured before is kept, so that a run can be taken up again. A quick run writes to
``out/bench-quick`` only.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from datetime import date

from koma.bench import environment, machine, page
from koma.bench.batching import section as batching
from koma.bench.cancel import section as cancel
from koma.bench.finding import Finding
from koma.bench.full_size import section as full_size
from koma.bench.marks import section as marks
from koma.bench.plan import Plan
from koma.bench.road import section as road
from koma.bench.roofline import section as roofline
from koma.bench.scale import section as scale
from koma.bench.start import section as start
from koma.bench.table import section as table
from koma.cli.server_process import home

SECTIONS: dict[str, Callable[[Plan], Finding | None]] = {
    "road": road.measure,
    "batching": batching.measure,
    "table": table.measure,
    "scale": scale.measure,
    "start": start.measure,
    "roofline": roofline.measure,
    "cancel": cancel.measure,
    "marks": marks.measure,
    "full_size": full_size.measure,
}


def main() -> int:
    """Run the sections that are asked for; returns 1 where one failed."""
    only = [name for name in os.environ.get("ONLY", "").split(",") if name] or list(SECTIONS)
    unknown = sorted(set(only) - set(SECTIONS))
    if unknown:
        print(f"ONLY={unknown[0]} is no section; there are: {', '.join(SECTIONS)}")
        return 2
    plan = _plan()
    about = machine.describe().line()
    print(f"{about}\nseed {plan.seed}{', quick' if plan.quick else ''}; findings in {plan.out}", flush=True)
    day = f"{date.today()}, {_commit()}"  # before the first section writes to the page
    failed = [name for name in only if not _run(name, plan, day, about)]
    environment.draw_plots(plan)
    for name in failed:
        print(f"section {name} FAILED; `make bench ONLY={name}` measures it again", flush=True)
    return 1 if failed else 0


def _plan() -> Plan:
    quick = os.environ.get("QUICK", "") not in ("", "0")
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
    out = home() / "out" / ("bench-quick" if quick else "bench")
    out.mkdir(parents=True, exist_ok=True)
    return Plan(quick, seed, out)


def _run(name: str, plan: Plan, day: str, about: str) -> bool:
    print(f"\n{name}", flush=True)
    began = time.monotonic()
    try:
        finding = SECTIONS[name](plan)
    except Exception:
        traceback.print_exc()
        return False
    if finding is None:
        return True
    finding.seconds = time.monotonic() - began
    finding.command = f"make bench ONLY={name} SEED={plan.seed}" + (" QUICK=1" if plan.quick else "")
    finding.date, finding.machine = day, about
    finding.write(plan.out)
    text = page.part(finding, environment.available())
    print(text, flush=True)
    page.replace_part(plan.page, name, text)
    return True


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=home(), capture_output=True, text=True, check=False)
    return f"commit {done.stdout.strip() or 'unknown'}"


if __name__ == "__main__":
    sys.exit(main())
