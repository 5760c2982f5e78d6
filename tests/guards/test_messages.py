"""What a job costs on the port, counted: a change that makes it more is seen without a clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from koma.models import registry
from koma.port.codec import encode
from koma.port.messages import Accepted, Done, Progress, Submit
from koma.testing.scripted import RunningEngine

ENVELOPE = 4
"""Messages beside one for each step: accepted, prepare, the start of the steps, done."""
BYTES = 110
"""Of a message of progress, at most."""


def _run(folder: Path, jobs: int, steps: int) -> list[Any]:
    runner = registry.load("toy", "toy", "cpu", "float32", 8, {})
    names = [f"job_{number:020d}" for number in range(jobs)]
    with RunningEngine(runner, folder, slots=8) as engine:
        for name in names:
            params = {"steps": steps, "step_ms": 0, "seed": 1}
            engine.engine.submit(Submit(name, 1, "toy.run", params, {}, str(folder / name), False))
        engine.wait_for_ends(names)
        return [message for name in names for message in engine.of(name)]


@pytest.mark.parametrize(("jobs", "steps"), [(1, 1), (1, 20), (5, 7)])
def test_a_job_is_told_in_one_message_for_each_step_and_four_more(
    tmp_path: Path, jobs: int, steps: int
) -> None:
    heard = _run(tmp_path, jobs, steps)
    assert len(heard) == jobs * (steps + ENVELOPE)
    assert sum(isinstance(message, Progress) for message in heard) == jobs * (steps + 2)
    assert sum(isinstance(message, Accepted | Done) for message in heard) == 2 * jobs


def test_a_message_of_progress_is_small(tmp_path: Path) -> None:
    heard = _run(tmp_path, 2, 12)
    assert max(len(encode(message)) for message in heard if isinstance(message, Progress)) <= BYTES


def test_a_job_of_short_text_makes_no_folder(tmp_path: Path) -> None:
    _run(tmp_path, 3, 2)
    assert list(tmp_path.iterdir()) == []
