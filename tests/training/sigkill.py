"""Breaks a training run off half-way, for tests that it resumes exactly."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import torch

from koma.training.loop import Options, Result, Run, fit

SAVE_EVERY = 5
KILLED_AFTER = 12
"""Step after which the process dies: two steps of work are lost, step 10 is on disk."""


def options(out: Path, steps: int, resume: bool = False, start_from: Path | None = None) -> Options:
    return Options(
        out, steps=steps, save_every=SAVE_EVERY, resume=resume, device="cpu", start_from=start_from
    )


def resumed_after_interrupt(
    make: Callable[[], Run], out: Path, steps: int, start_from: Path | None = None
) -> Result:
    """The result of the continuation of a run that was broken off in this process, as by Ctrl-C.

    What it goes on with is what `resumed_after_sigkill` goes on with: the last state on the disk.
    """
    with contextlib.suppress(KeyboardInterrupt):
        fit(_breaking_off(make(), _interrupt), options(out, steps, start_from=start_from))
    return fit(make(), options(out, steps, resume=True, start_from=start_from))


def train_until_killed(
    make: Callable[[], Run], out: Path, steps: int, start_from: Path | None = None
) -> None:
    """Train in another process that dies by SIGKILL after step `KILLED_AFTER`; `make` must be importable."""
    arguments = (make, options(out, steps, start_from=start_from))
    process = multiprocessing.get_context("spawn").Process(target=_train_and_die, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def resumed_after_sigkill(
    make: Callable[[], Run], out: Path, steps: int, start_from: Path | None = None
) -> Result:
    """The result of the continuation of a run that was killed."""
    train_until_killed(make, out, steps, start_from)
    return fit(make(), options(out, steps, resume=True, start_from=start_from))


def _train_and_die(make: Callable[[], Run], how: Options) -> None:
    torch.set_num_threads(1)
    fit(_breaking_off(make(), _die), how)


def _interrupt() -> None:
    raise KeyboardInterrupt


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _breaking_off(run: Run, end: Callable[[], None]) -> Run:
    own = run.after_step

    def after_step(step: int, generator: torch.Generator) -> None:
        own(step, generator)
        if step == KILLED_AFTER:
            end()

    run.after_step = after_step  # type: ignore[method-assign]
    return run
