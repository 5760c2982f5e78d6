"""Cancel is looked at on every boundary and frees the machine within one step."""

from __future__ import annotations

from pathlib import Path

import pytest

from koma.port.messages import Accepted, Done, Failed, Progress, Token
from koma.testing.scripted import RunningEngine, ScriptedRunner


def is_answered_once_as_cancelled(engine: RunningEngine, job_id: str) -> bool:
    return [message.code for message in engine.of(job_id, Done, Failed)] == ["cancelled"]


def drained(engine: RunningEngine) -> None:
    engine.engine.drain()
    engine.join()


def test_a_cancelled_row_takes_part_in_no_later_forward(tmp_path: Path) -> None:
    runner = ScriptedRunner(gated=True)
    with RunningEngine(runner, tmp_path) as engine:
        for job_id in ("stays", "goes"):
            engine.submit(job_id, steps=20, tokens=True)
        engine.all_join(runner, ["stays", "goes"])
        engine.engine.cancel("goes")
        begun = len(runner.forwards) + 2  # all that was permitted until now
        runner.allow(40)
        engine.wait_for(Done, "stays")
        drained(engine)
    assert is_answered_once_as_cancelled(engine, "goes")
    assert all("goes" not in forward for forward in runner.forwards[begun:])
    assert isinstance(engine.of("goes")[-1], Failed)
    assert len(engine.of("stays", Token)) == 20


def test_a_job_that_waits_for_a_slot_is_cancelled_at_once(tmp_path: Path) -> None:
    runner = ScriptedRunner(gated=True)
    with RunningEngine(runner, tmp_path, slots=1) as engine:
        engine.submit("runs")
        engine.submit("waits")
        engine.wait_for(Accepted, "waits")
        engine.engine.cancel("waits")
        assert engine.wait_for(Failed, "waits").code == "cancelled"
        runner.allow(3)
        engine.wait_for(Done, "runs")
    assert engine.of("waits", Progress) == []


def test_a_job_behind_a_slow_preparation_is_cancelled_at_once(tmp_path: Path) -> None:
    runner = ScriptedRunner()
    runner.prepare_gate.clear()
    with RunningEngine(runner, tmp_path) as engine:
        engine.submit("slow")
        engine.wait_for(Progress, "slow", phase="prepare")
        engine.submit("behind")
        engine.engine.cancel("behind")
        assert engine.wait_for(Failed, "behind").code == "cancelled"
        runner.prepare_gate.set()
        engine.wait_for(Done, "slow")


def test_a_job_cancelled_in_preparation_never_steps(tmp_path: Path) -> None:
    runner = ScriptedRunner()
    runner.prepare_gate.clear()
    with RunningEngine(runner, tmp_path) as engine:
        engine.submit("a")
        engine.wait_for(Progress, "a", phase="prepare")
        engine.engine.cancel("a")
        runner.prepare_gate.set()
        engine.wait_for(Failed, "a")
        drained(engine)
    assert runner.forwards == []
    assert is_answered_once_as_cancelled(engine, "a")


def test_a_job_cancelled_while_it_finishes_leaves_no_result_behind(tmp_path: Path) -> None:
    runner = ScriptedRunner()
    runner.finish_gate.clear()
    with RunningEngine(runner, tmp_path) as engine:
        engine.submit("a")
        engine.wait_for(Progress, "a", phase="finish")
        while runner.seen.get(timeout=10)[0] != "finish":
            pass
        engine.engine.cancel("a")
        runner.finish_gate.set()
        engine.wait_for(Failed, "a")
        drained(engine)
    assert is_answered_once_as_cancelled(engine, "a")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("times", [2, 5])
def test_cancelling_again_and_again_answers_once(tmp_path: Path, times: int) -> None:
    runner = ScriptedRunner(gated=True)
    with RunningEngine(runner, tmp_path) as engine:
        engine.submit("a")
        engine.wait_for(Progress, "a", phase="step")
        for _ in range(times):
            engine.engine.cancel("a")
        runner.allow(9)
        engine.wait_for(Failed, "a")
        engine.engine.cancel("a")
        drained(engine)
    assert is_answered_once_as_cancelled(engine, "a")


def test_cancelling_what_was_never_here_or_has_ended_is_ignored(tmp_path: Path) -> None:
    with RunningEngine(ScriptedRunner(), tmp_path) as engine:
        engine.engine.cancel("never")
        engine.submit("a")
        engine.wait_for(Done, "a")
        engine.engine.cancel("a")
        drained(engine)
    assert [type(m) for m in engine.of("a", Done, Failed)] == [Done]


def test_a_cancelled_job_frees_its_slot_for_the_next(tmp_path: Path) -> None:
    runner = ScriptedRunner(gated=True)
    with RunningEngine(runner, tmp_path, slots=1) as engine:
        engine.submit("a", steps=1000)
        engine.submit("b", steps=1)
        engine.wait_for(Progress, "a", phase="step")
        engine.engine.cancel("a")
        runner.allow(2)
        ends = engine.wait_for_ends(["a", "b"])
    assert [type(ends[job_id]) for job_id in ("a", "b")] == [Failed, Done]
