"""The whole wait is visible: progress that only grows, an honest estimate, previews, tokens, timings."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest

from koma.port.limits import MAX_INLINE_TEXT
from koma.port.messages import Accepted, Done, Preview, Progress, Stats, Token
from koma.testing.scripted import RunningEngine, ScriptedRunner


def drained(engine: RunningEngine) -> None:
    engine.engine.drain()
    engine.join()


def test_a_job_is_accepted_prepared_stepped_and_finished_in_this_order(tmp_path: Path) -> None:
    with RunningEngine(ScriptedRunner(), tmp_path) as engine:
        engine.submit("a", steps=3, tokens=True, seed=7)
        engine.wait_for(Done, "a")
    assert engine.of("a")[0] == Accepted("a", 1, 3, 0)
    progress = engine.of("a", Progress)
    assert [p.phase for p in progress] == ["prepare", "step", "step", "step", "finish"]
    assert [p.step for p in progress] == [0, 0, 1, 2, 3]
    assert {p.total for p in progress} == {3}
    assert [(token.index, token.text) for token in engine.of("a", Token)] == [(0, "1 "), (1, "2 "), (2, "3 ")]
    assert engine.of("a")[-1].seed == 7


def test_progress_of_a_job_only_grows_also_in_company(tmp_path: Path) -> None:
    with RunningEngine(ScriptedRunner(), tmp_path) as engine:
        for index, job_id in enumerate("abcd"):
            engine.submit(job_id, steps=5 + index, key="xy"[index % 2])
        engine.wait_for_all(Done, "abcd")
    for job_id in "abcd":
        steps = [p.step for p in engine.of(job_id, Progress)]
        assert steps == sorted(steps)
        assert len(set(steps[1:])) == len(steps[1:])


def test_the_estimate_follows_the_measured_time_of_a_step(tmp_path: Path) -> None:
    runner = ScriptedRunner(gated=True)
    with RunningEngine(runner, tmp_path) as engine:
        engine.submit("a", steps=5)
        engine.wait_for(Progress, "a", phase="step", step=0)
        runner.seen.get(timeout=10)
        runner.seen.get(timeout=10)
        started = time.monotonic()
        while time.monotonic() - started < 0.05:
            runner.seen.empty()
        runner.allow(1)
        eta = engine.wait_for(Progress, "a", phase="step", step=1).eta_ms
        runner.allow(10)
        engine.wait_for(Done, "a")
        engine.submit("b", steps=5)
        estimate = engine.wait_for(Accepted, "b").estimate_ms
        runner.allow(10)
        engine.wait_for(Done, "b")
    assert 200 <= eta <= 2000
    assert 40 <= estimate <= 1000


def test_previews_are_made_only_when_wanted(tmp_path: Path) -> None:
    runner = ScriptedRunner(gated=True)
    with RunningEngine(runner, tmp_path) as engine:
        engine.submit("watched", previews=True, preview_bytes=10, steps=5)
        engine.submit("alone", previews=False, steps=5, fail_in="preview")
        engine.settle()
        runner.allow(2)
        preview = engine.wait_for(Preview, "watched")
        runner.allow(10)
        engine.wait_for_all(Done, ["watched", "alone"])
    assert (preview.media_type, len(preview.data)) == ("image/png", 10)
    assert 1 <= preview.step <= 2


def test_previews_of_a_job_keep_their_distance_and_their_order(tmp_path: Path) -> None:
    with RunningEngine(ScriptedRunner(), tmp_path, preview_interval_s=3600.0) as engine:
        engine.submit("a", previews=True, preview_bytes=10, steps=200)
        engine.wait_for(Done, "a")
        drained(engine)
    assert len(engine.of("a", Preview)) <= 1


def test_nothing_is_said_of_a_job_after_its_result(tmp_path: Path) -> None:
    with RunningEngine(ScriptedRunner(), tmp_path) as engine:
        for index in range(30):
            engine.submit(f"j{index}", previews=True, preview_bytes=1000, steps=2)
            engine.wait_for(Done, f"j{index}")
        drained(engine)
    for index in range(30):
        assert isinstance(engine.of(f"j{index}")[-1], Done)


@pytest.mark.parametrize("size", [MAX_INLINE_TEXT, MAX_INLINE_TEXT + 1])
def test_a_text_up_to_the_limit_travels_inline_and_a_longer_one_as_a_file(tmp_path: Path, size: int) -> None:
    with RunningEngine(ScriptedRunner(), tmp_path) as engine:
        engine.submit("a", text_bytes=size, seed=1)
        text, log = engine.wait_for(Done, "a").outputs
    expected = "seed 1".ljust(size, ".").encode()
    found = text.text.encode() if text.text is not None else Path(text.path or "").read_bytes()
    assert found == expected
    assert (text.path is None) == (size <= MAX_INLINE_TEXT)
    assert (text.bytes, text.sha256) == (size, hashlib.sha256(expected).hexdigest())
    assert Path(log.path or "").read_text() == "finished"
    assert log.sha256 == hashlib.sha256(b"finished").hexdigest()


def test_timings_tell_every_phase(tmp_path: Path) -> None:
    with RunningEngine(ScriptedRunner(), tmp_path) as engine:
        engine.submit("a", steps=3)
        timings = engine.wait_for(Done, "a").timings
    assert set(timings) == {"wait_ms", "prepare_ms", "steps_ms", "forwards", "finish_ms", "total_ms"}
    assert timings["forwards"] == 3
    parts = sum(timings[name] for name in ("wait_ms", "prepare_ms", "steps_ms", "finish_ms"))
    assert parts <= timings["total_ms"] + 1


def test_busy_tells_how_long_an_operation_has_been_running_and_idle_is_zero(tmp_path: Path) -> None:
    runner = ScriptedRunner()
    runner.prepare_gate.clear()
    with RunningEngine(runner, tmp_path) as engine:
        assert engine.engine.busy_ms() == 0
        engine.submit("a")
        engine.wait_for(Progress, "a", phase="prepare")
        deadline = time.monotonic() + 10
        while engine.engine.busy_ms() < 20 and time.monotonic() < deadline:
            pass
        assert engine.engine.busy_ms() >= 20
        runner.prepare_gate.set()
        engine.wait_for(Done, "a")
        drained(engine)
        assert engine.engine.busy_ms() == 0


def test_a_seed_that_nobody_drew_is_drawn_from_the_id_so_that_a_retry_repeats_it(tmp_path: Path) -> None:
    seeds = []
    for attempt in (1, 2):
        with RunningEngine(ScriptedRunner(), tmp_path) as engine:
            engine.submit("a", attempt=attempt, seed=None)
            seeds.append(engine.wait_for(Done, "a").seed)
    assert seeds[0] == seeds[1] > 0


def test_the_numbers_of_the_last_job_are_told_soon_after_it(tmp_path: Path) -> None:
    with RunningEngine(ScriptedRunner(), tmp_path) as engine:
        engine.wait_for(Stats, forwards=0)
        engine.submit("a", steps=4)
        engine.wait_for(Done, "a")
        ended = time.monotonic()
        engine.wait_for(Stats, forwards=4, running=0, waiting=0)
        assert time.monotonic() - ended < 5
