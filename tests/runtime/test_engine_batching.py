"""In-flight batching: jobs share forwards step by step, join late, leave early, and take turns."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from koma.port.messages import Accepted, Done, Failed, Progress, Stats, Token
from koma.testing.scripted import RunningEngine, ScriptedRunner


def gated() -> ScriptedRunner:
    return ScriptedRunner(gated=True)


def test_three_jobs_that_arrive_late_share_their_forwards(tmp_path: Path) -> None:
    runner = gated()
    with RunningEngine(runner, tmp_path) as engine:
        engine.submit("a", steps=12)
        for job_id, steps, arrival in (("b", 8, 3), ("c", 5, 5)):
            runner.allow(arrival - len(runner.forwards))
            engine.wait_for(Progress, "a", phase="step", step=arrival)
            engine.submit(job_id, steps=steps)
            engine.settle()
        runner.allow(20)
        engine.wait_for_all(Done, ["a", "b", "c"])
    assert Counter(job for forward in runner.forwards for job in forward) == {"a": 12, "b": 8, "c": 5}
    assert len(runner.forwards) <= 13


def test_jobs_of_different_keys_never_share_a_forward_and_take_turns(tmp_path: Path) -> None:
    runner = gated()
    jobs = ["a1", "b1", "a2"]
    with RunningEngine(runner, tmp_path) as engine:
        for job_id in jobs:
            engine.submit(job_id, steps=40, key=job_id[0])
        engine.all_join(runner, jobs)
        joined = len(runner.forwards) + 2
        runner.allow(200)
        engine.wait_for_all(Done, jobs)
    keys = [{job[0] for job in forward} for forward in runner.forwards]
    assert all(len(key) == 1 for key in keys)
    assert all(first != second for first, second in pairwise(keys[joined : joined + 20])), runner.forwards


def test_never_more_jobs_than_slots_are_inside_and_the_rest_wait(tmp_path: Path) -> None:
    runner = gated()
    with RunningEngine(runner, tmp_path, slots=2) as engine:
        for job_id in ("a", "b", "c", "d"):
            engine.submit(job_id, steps=1)
        engine.wait_for_all(Accepted, ["a", "b", "c", "d"])
        assert (engine.engine.stats().running, engine.engine.stats().waiting) == (2, 2)
        engine.submit("e", steps=1)
        refused = engine.wait_for(Failed, "e")
        runner.allow(20)
        engine.wait_for_all(Done, ["a", "b", "c", "d"])
    assert (refused.code, refused.bound) == ("overloaded", 4)
    assert max(len(forward) for forward in runner.forwards) <= 2


def test_a_job_without_steps_is_finished_without_a_forward(tmp_path: Path) -> None:
    runner = ScriptedRunner()
    with RunningEngine(runner, tmp_path) as engine:
        engine.submit("a", steps=0)
        engine.wait_for(Done, "a")
    assert runner.forwards == []


def test_an_id_that_is_here_already_is_a_conflict(tmp_path: Path) -> None:
    runner = gated()
    with RunningEngine(runner, tmp_path) as engine:
        engine.submit("a", attempt=2)
        engine.submit("a", attempt=2)
        assert engine.wait_for(Failed, "a").code == "conflict"
        engine.submit("a", attempt=1)
        assert engine.wait_for(Failed, "a").code == "conflict"
        runner.allow(3)
        engine.wait_for(Done, "a")


def test_a_greater_attempt_takes_the_place_of_the_earlier_one(tmp_path: Path) -> None:
    runner = gated()
    with RunningEngine(runner, tmp_path) as engine:
        engine.submit("a", attempt=1, steps=5, tokens=True, seed=1)
        engine.wait_for(Progress, "a", phase="step")
        runner.seen.get()
        engine.submit("a", attempt=2, steps=2, tokens=True, seed=2)
        engine.wait_for(Accepted, "a", attempt=2)
        runner.allow(20)
        done = engine.wait_for(Done, "a")
        engine.engine.drain()
        engine.join()
    assert done.outputs[0].text == "seed 2"
    assert [token.text for token in engine.of("a", Token)] == ["1 ", "2 "]
    assert engine.of("a", Done, Failed) == [done]


def test_an_id_can_be_used_again_once_its_job_has_ended(tmp_path: Path) -> None:
    with RunningEngine(ScriptedRunner(), tmp_path) as engine:
        for _ in range(2):
            engine.submit("a", steps=1)
            engine.wait_for(Done, "a")


def test_memory_that_runs_out_halves_the_batch_and_costs_nobody_the_result(tmp_path: Path) -> None:
    runner = ScriptedRunner(fits=1, gated=True)
    with RunningEngine(runner, tmp_path, slots=5) as engine:
        for job_id in "abcd":
            engine.submit(job_id, steps=3)
        engine.settle()
        runner.allow(100)
        done = engine.wait_for_all(Done, "abcd")
    assert set(done) == set("abcd")
    fitting = [forward for forward in runner.forwards if len(forward) == 1]
    assert Counter(job for forward in fitting for job in forward) == dict.fromkeys("abcd", 3)
    assert len(runner.forwards) - len(fitting) <= 3


def test_the_batch_grows_again_after_memory_ran_out(tmp_path: Path) -> None:
    runner = ScriptedRunner(fits=2, gated=True)
    with RunningEngine(runner, tmp_path, slots=4) as engine:
        for job_id in "abcd":
            engine.submit(job_id, steps=80)
        engine.all_join(runner, "abcd")
        joined = len(runner.forwards) + 2
        runner.allow(10)
        while len(runner.forwards) < joined + 6:
            engine.wait_for(Progress)
        runner.fits = 4
        runner.allow(1000)
        engine.wait_for_all(Done, "abcd")
    assert any(len(forward) > 2 for forward in runner.forwards[: joined + 6])
    assert any(len(forward) == 4 for forward in runner.forwards[joined + 10 :])


@pytest.mark.parametrize("fits", [None, 1])
def test_rows_beyond_the_cap_take_turns(tmp_path: Path, fits: int | None) -> None:
    runner = ScriptedRunner(fits=fits, gated=True)
    with RunningEngine(runner, tmp_path) as engine:
        for job_id in "abc":
            engine.submit(job_id, steps=5)
        engine.settle()
        runner.allow(100)
        engine.wait_for_all(Done, "abc")
    done = [forward for forward in runner.forwards if fits is None or len(forward) <= fits]
    counts: Counter[str] = Counter()
    for forward in done:
        counts.update(forward)
        assert max(counts.values()) - min(counts[job] for job in "abc") <= 2, done


def test_the_counters_count_forwards_and_rows(tmp_path: Path) -> None:
    runner = ScriptedRunner()
    with RunningEngine(runner, tmp_path) as engine:
        engine.wait_for(Stats)
        engine.submit("a", steps=4)
        engine.wait_for(Done, "a")
        stats = engine.engine.stats()
    assert (stats.forwards, stats.rows, stats.last_batch, stats.slots) == (4, 4, 1, 4)
    assert (stats.running, stats.waiting, stats.device_memory_bytes) == (0, 0, 0)
    assert stats.memory_bytes > 1_000_000


def test_draining_finishes_what_runs_and_refuses_the_rest(tmp_path: Path) -> None:
    runner = gated()
    with RunningEngine(runner, tmp_path, slots=1) as engine:
        engine.submit("a")
        engine.submit("b")
        engine.wait_for(Progress, "a", phase="step")
        engine.engine.drain()
        engine.submit("c")
        assert engine.wait_for(Failed, "c").code == "draining"
        runner.allow(20)
        engine.wait_for_all(Done, ["a", "b"])
        engine.join()


def test_draining_an_idle_engine_ends_it_at_once(tmp_path: Path) -> None:
    with RunningEngine(ScriptedRunner(), tmp_path) as engine:
        engine.wait_for(Stats)
        engine.engine.drain()
        engine.join()
