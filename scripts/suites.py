#!/usr/bin/env python3
"""Run the test suites in parts beside each other: scripts/suites.py [SUITE ...].

A suite is `elixir`, `python` or `browser`; without a name all of them run. Much of a test of faults
is waiting, so that parts of the suites share the cores well: as many run at once as the machine has
cores and two more, or as JOBS says. The output of each part lies in _build/suites/PART.log; what
failed is shown at the end. The exit status is 0 when every part passed.
"""

from __future__ import annotations

import concurrent.futures
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / "_build/suites"
PYTEST = [str(ROOT / ".venv/bin/python"), "-m", "pytest"]
ELIXIR_PARTS = 6
# Where a failure of a suite is told in its output: from this line on, so many lines.
FAILURE = re.compile(r"^ +\d+\) test|^Failed:|^=+ (FAILURES|ERRORS) =|^FAILED |^ERROR |^not ok|^✖")
SUMMARY = re.compile(
    r"^\d+ (tests?|propert|doctests?).*|^=* ?\d+ (passed|failed).*|^# (pass|fail) .*|^ℹ (pass|fail) .*"
)


@dataclass(frozen=True)
class Part:
    """A command that runs some of the tests of one suite."""

    suite: str
    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """The file that takes the output of the command."""
        return LOGS / f"{self.name}.log"


def parts() -> list[Part]:
    """Return every part, the longest first, so that no long one is left over at the end."""
    folders = sorted(path.name for path in (ROOT / "tests").iterdir() if any(path.glob("test_*.py")))
    apart = ["end_to_end", "models", "training"]
    rest = [f"tests/{name}" for name in folders if name not in apart]
    return [
        Part("python", "pytest-end-to-end", [*PYTEST, "tests/end_to_end"]),
        Part("browser", "browser", ["node", "--test", "tests/browser/all.test.mjs"]),
        Part("python", "pytest-models", [*PYTEST, "tests/models"]),
        *(_elixir(number) for number in range(1, ELIXIR_PARTS + 1)),
        Part("python", "pytest-training", [*PYTEST, "tests/training"]),
        Part("python", "pytest-others", [*PYTEST, *rest]),
    ]


def _elixir(number: int) -> Part:
    command = ["mix", "test", "--no-compile", "--partitions", str(ELIXIR_PARTS)]
    environment = {"MIX_ENV": "test", "MIX_TEST_PARTITION": str(number)}
    return Part("elixir", f"exunit-{number}", command, environment)


class Running:
    """The processes of the parts that run now, so that an interrupt ends them all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: dict[subprocess.Popen[bytes], Part] = {}
        self._stopped = False

    def run(self, part: Part) -> tuple[Part, int, float]:
        """Run the part to its end and return its exit status and the seconds that it took."""
        started = time.monotonic()
        with part.log.open("wb") as log:
            with self._lock:
                if self._stopped:
                    return part, 1, 0.0
                process = subprocess.Popen(
                    part.command, cwd=ROOT, env={**os.environ, **part.environment},
                    stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
                self._processes[process] = part
            status = process.wait()
        with self._lock:
            del self._processes[process]
        return part, status, time.monotonic() - started

    def stop(self) -> None:
        """Interrupt all parts; each then stops the servers that it had started."""
        with self._lock:
            self._stopped = True
            for process, part in self._processes.items():
                # An Erlang machine would answer SIGINT with its break menu.
                ending = signal.SIGTERM if part.suite == "elixir" else signal.SIGINT
                os.killpg(process.pid, ending)


def main(suites: list[str]) -> int:
    """Run the parts of these suites, or of all, and say how each ended."""
    known = ["elixir", "python", "browser"]
    if unknown := [name for name in suites if name not in known]:
        print(f"no suite {unknown[0]}; known are {', '.join(known)}", file=sys.stderr)
        return 2
    chosen = [part for part in parts() if not suites or part.suite in suites]
    if not _compiled():
        return 1
    at_once = int(os.environ.get("JOBS") or (os.cpu_count() or 2) + 2)
    LOGS.mkdir(parents=True, exist_ok=True)
    print(
        f"{len(chosen)} parts, {at_once} at a time; on two cores all of them take some eight minutes",
        flush=True,
    )
    return _run(chosen, at_once)


def _compiled() -> bool:
    """Compile the server as it is tested and as it is run, before the parts would do so all at once."""
    return all(
        subprocess.run(["mix", "compile", "--no-deps-check"], cwd=ROOT, env={**os.environ, **name}).returncode
        == 0
        for name in ({"MIX_ENV": "test"}, {})
    )


def _run(chosen: list[Part], at_once: int) -> int:
    running, failed, started = Running(), [], time.monotonic()
    # A shell ignores SIGINT for what runs in its background, and tests of interrupts would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        try:
            ended = concurrent.futures.as_completed([pool.submit(running.run, part) for part in chosen])
            for number, future in enumerate(ended, 1):
                part, status, seconds = future.result()
                failed += [part] if status else []
                mark = "failed" if status else "passed"
                print(
                    f"[{number}/{len(chosen)}] {part.name} {mark} in {seconds:.0f} s: {_summary(part)}",
                    flush=True,
                )
        except KeyboardInterrupt:
            running.stop()
            raise SystemExit(130) from None
    for part in failed:
        print(f"\n=== {part.name} failed; its output is {part.log.relative_to(ROOT)}\n{_failures(part)}")
    print(f"{len(chosen) - len(failed)} of {len(chosen)} parts passed in {time.monotonic() - started:.0f} s")
    return 1 if failed else 0


def _lines(part: Part) -> list[str]:
    return part.log.read_text(errors="replace").splitlines()


def _summary(part: Part) -> str:
    return ", ".join(line.strip("= ") for line in _lines(part) if SUMMARY.match(line)) or "no tests told"


def _failures(part: Part) -> str:
    """Return the lines that follow each failure, or the end of the output where none is marked."""
    lines = _lines(part)
    shown: dict[int, str] = {}
    for number, line in enumerate(lines):
        if FAILURE.match(line):
            shown.update(enumerate(lines[number : number + 40], number))
    return "\n".join(shown[number] for number in sorted(shown)) or "\n".join(lines[-60:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
