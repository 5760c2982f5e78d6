"""Whatever is submitted, in whatever mixture: every job is answered, once, and that is its last message."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from koma.port.messages import Done, Failed, Progress, Token
from koma.testing.scripted import RunningEngine, ScriptedRunner

jobs = st.lists(
    st.fixed_dictionaries(
        {
            "steps": st.integers(0, 6),
            "key": st.sampled_from("ab"),
            "tokens": st.booleans(),
            "stuck": st.sampled_from([False, False, False, True]),
            "fail_in": st.sampled_from(
                ["nowhere", "nowhere", "prepare", "key", "step", "text", "preview", "encode", "finish"]
            ),
            "fail_at": st.integers(0, 3),
            "error": st.sampled_from(["runtime", "koma", "memory", "exit", "disk"]),
        }
    ),
    min_size=1,
    max_size=10,
)


@settings(max_examples=60, deadline=None)
@given(jobs, st.lists(st.integers(0, 9), max_size=5), st.integers(1, 4), st.none() | st.integers(1, 3))
def test_every_job_is_answered_exactly_once_and_last(
    scripts: list[dict[str, Any]], cancelled: list[int], slots: int, fits: int | None
) -> None:
    ids = [f"j{index}" for index in range(len(scripts))]
    with (
        tempfile.TemporaryDirectory() as folder,
        RunningEngine(ScriptedRunner(fits=fits), Path(folder), slots=slots) as engine,
    ):
        for job_id, script in zip(ids, scripts, strict=True):
            engine.submit(job_id, previews=True, **script)
        for index in cancelled:
            engine.engine.cancel(f"j{index}")
        engine.engine.drain()
        engine.join()
    assert engine.error is None
    for job_id in ids:
        heard = engine.of(job_id)
        assert [isinstance(message, Done | Failed) for message in heard] == [False] * (len(heard) - 1) + [
            True
        ]
        steps = [message.step for message in heard if isinstance(message, Progress)]
        assert steps == sorted(steps)
        tokens = [message.index for message in heard if isinstance(message, Token)]
        assert tokens == list(range(len(tokens)))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.none() | st.integers(1, 3))
def test_every_row_takes_part_in_as_many_forwards_as_it_has_steps(steps: list[int], fits: int | None) -> None:
    runner = ScriptedRunner(fits=fits)
    with tempfile.TemporaryDirectory() as folder, RunningEngine(runner, Path(folder)) as engine:
        for index, count in enumerate(steps):
            engine.submit(f"j{index}", steps=count)
        engine.wait_for_all(Done, [f"j{index}" for index in range(len(steps))])
    fitting = [forward for forward in runner.forwards if fits is None or len(forward) <= fits]
    for index, count in enumerate(steps):
        assert sum(f"j{index}" in forward for forward in fitting) == count
