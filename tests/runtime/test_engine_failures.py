"""What goes wrong with one job ends that job alone, with a code; a broken process is told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from koma.port.messages import Done, Failed, Preview, Progress, Token
from koma.runtime.failures import NodeBroken
from koma.testing.scripted import RunningEngine, ScriptedRunner

PLACES = ["prepare", "key", "step", "text", "preview", "finish"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("runtime", "model_failed"),
        ("koma", "invalid_media"),
        ("memory", "out_of_memory"),
        ("exit", "model_failed"),
        ("disk", "storage_full"),
    ],
)
def test_an_error_in_any_phase_fails_that_job_alone(
    tmp_path: Path, place: str, error: str, code: str
) -> None:
    with RunningEngine(ScriptedRunner(), tmp_path) as engine:
        engine.submit("good", steps=5)
        engine.submit("bad", steps=5, previews=True, preview_bytes=8, fail_in=place, error=error, fail_at=1)
        ends = engine.wait_for_ends(["good", "bad"])
        engine.submit("next")
        engine.wait_for(Done, "next")
        engine.engine.drain()
        engine.join()
    failure = ends["bad"]
    assert isinstance(ends["good"], Done)
    assert isinstance(failure, Failed)
    assert (failure.scope, failure.code) == ("job", code)
    assert [type(message) for message in engine.of("bad", Done, Failed)] == [Failed]
    assert len(failure.message) <= 300
    assert "\n" not in failure.message


def test_an_error_that_was_raised_to_be_told_keeps_field_value_and_bound(tmp_path: Path) -> None:
    with RunningEngine(ScriptedRunner(), tmp_path) as engine:
        engine.submit("a", fail_in="prepare", error="koma")
        failure = engine.wait_for(Failed, "a")
    assert (failure.message, failure.field, failure.value, failure.bound) == ("scripted", "image", "x", "y")


def test_of_a_batch_that_raises_only_the_culprit_fails_and_nobody_loses_a_step(tmp_path: Path) -> None:
    runner = ScriptedRunner(gated=True)
    with RunningEngine(runner, tmp_path) as engine:
        for job_id in ("a", "bad", "c"):
            place = "step" if job_id == "bad" else "nowhere"
            engine.submit(job_id, steps=5, tokens=True, fail_in=place, fail_at=2)
        engine.settle()
        runner.allow(100)
        ends = engine.wait_for_ends(["a", "bad", "c"])
    assert [type(ends[job_id]) for job_id in ("a", "bad", "c")] == [Done, Failed, Done]
    for job_id in ("a", "c"):
        assert [token.text for token in engine.of(job_id, Token)] == ["1 ", "2 ", "3 ", "4 ", "5 "]


def test_a_runner_that_does_not_advance_fails_the_job_instead_of_running_for_ever(tmp_path: Path) -> None:
    with RunningEngine(ScriptedRunner(), tmp_path) as engine:
        engine.submit("a", stuck=True)
        failure = engine.wait_for(Failed, "a")
    assert failure.code == "model_failed"
    assert "did not advance" in failure.message


@pytest.mark.parametrize("place", ["prepare", "step", "finish"])
def test_a_lost_device_breaks_the_node_and_no_job_is_answered(tmp_path: Path, place: str) -> None:
    with RunningEngine(ScriptedRunner(), tmp_path) as engine:
        engine.submit("a", fail_in=place, error="cuda")
        engine.join()
    assert isinstance(engine.error, NodeBroken)
    assert "device-side assert" in str(engine.error)
    assert engine.of("a", Done, Failed) == []


def test_a_picture_that_cannot_be_encoded_fails_its_job_while_it_runs(tmp_path: Path) -> None:
    runner = ScriptedRunner(gated=True)
    with RunningEngine(runner, tmp_path) as engine:
        engine.submit("bad", steps=1000, previews=True, fail_in="encode")
        runner.allow(1)
        engine.wait_for(Progress, "bad", step=1)
        while runner.seen.get(timeout=10) != ("encode", "bad"):
            pass
        while not engine.of("bad", Failed):
            runner.allow(1)
            engine.wait_for(object, "bad")
    assert engine.of("bad", Failed)[0].code == "model_failed"
    assert len(runner.forwards) < 100


def test_a_preview_that_would_not_fit_into_a_frame_is_dropped(tmp_path: Path) -> None:
    with RunningEngine(ScriptedRunner(), tmp_path) as engine:
        engine.submit("a", previews=True, preview_bytes=8 << 20)
        engine.wait_for(Done, "a")
        engine.engine.drain()
        engine.join()
    assert engine.of("a", Preview) == []
