"""The stock pipelines as a child process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from koma.bench.plan import Plan
from koma.bench.setting import Setting
from koma.bench.workload import Request


@dataclass
class Stock:
    """A running one."""

    process: subprocess.Popen[str]

    def run(self, mode: str, arrivals: Sequence[tuple[float, Request]]) -> tuple[list[float], list[int]]:
        """Run arrivals (second, request) in ``mode`` "single" or "whole"; return latencies, batch sizes."""
        items = [{"at": at, "request": asdict(request)} for at, request in arrivals]
        answer = self._ask({"mode": mode, "arrivals": items})
        return answer["latencies"], answer["sizes"]

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return self.read()

    def read(self) -> dict[str, Any]:
        """Return the next answer; raises RuntimeError where the process ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"the stock pipelines ended with status {self.process.wait()}; see out/bench/logs"
            )
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def stock(plan: Plan, families: Sequence[str], setting: Setting) -> Iterator[Stock]:
    """Start the stock pipelines of ``families`` and wait until they are loaded."""
    log = plan.folder("logs") / f"stock-{'-'.join(families)}.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "koma.bench.stock.server", ",".join(families), setting.to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        running = Stock(process)
        running.read()
        yield running
    finally:
        process.kill()
        process.wait()
