"""Rotation, caps and estimates: the arithmetic of the engine."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koma.runtime.batches import FIRST_TRIAL, MAX_CAPS, BatchCap, BatchCaps, Batches
from koma.runtime.pace import MAX_KEYS, Pace


def test_keys_take_turns_and_rows_beyond_the_cap_too() -> None:
    batches: Batches[str] = Batches()
    for row in ("a1", "a2", "a3", "b1"):
        batches.add(row[0], row)
    seen = []
    for _ in range(4):
        key = batches.first_key()
        rows = batches.take(2)
        seen.append(rows)
        for row in rows:
            batches.add(key, row)
    assert seen == [["a1", "a2"], ["b1"], ["a3", "a1"], ["b1"]]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.integers(1, 4))
def test_in_any_mixture_rows_of_a_key_advance_evenly_and_no_key_starves(sizes: list[int], cap: int) -> None:
    batches: Batches[tuple[int, int]] = Batches()
    for key, size in enumerate(sizes):
        for index in range(size):
            batches.add(key, (key, index))
    steps: Counter[tuple[int, int]] = Counter()
    turns: Counter[object] = Counter()
    for _ in range(60):
        turn = batches.first_key()
        turns[turn] += 1
        for row in batches.take(cap):
            steps[row] += 1
            batches.add(turn, row)
    assert max(turns.values()) - min(turns[key] for key in range(len(sizes))) <= 1
    for key, size in enumerate(sizes):
        counts = [steps[key, index] for index in range(size)]
        assert max(counts) - min(counts) <= 1


def test_rows_put_back_run_next_and_in_their_order() -> None:
    batches: Batches[str] = Batches()
    for row in ("a1", "a2", "b1"):
        batches.add(row[0], row)
    rows = batches.take(2)
    batches.add("a", "a3")
    batches.put_back("a", rows)
    assert batches.first_key() == "a"
    assert batches.take(3) == ["a1", "a2", "a3"]


def test_a_row_that_is_removed_is_gone_and_removing_it_again_is_harmless() -> None:
    batches: Batches[str] = Batches()
    batches.add("a", "a1")
    batches.remove("a1")
    batches.remove("a1")
    assert len(batches) == 0
    assert batches.sizes() == {}
    with pytest.raises(StopIteration):
        batches.first_key()


def test_a_cap_is_halved_when_memory_runs_out_and_never_below_one() -> None:
    cap = BatchCap(8)
    values = []
    for batch in (8, 4, 2, 1):
        cap.failed(batch)
        values.append(cap.value)
    assert values == [4, 2, 1, 1]


def test_a_cap_grows_only_after_enough_full_forwards_and_waits_longer_after_each_failure() -> None:
    cap = BatchCap(4)
    cap.failed(4)
    for _ in range(FIRST_TRIAL):
        cap.succeeded(1)
    assert cap.value == 2
    for _ in range(FIRST_TRIAL):
        cap.succeeded(2)
    assert cap.value == 4
    cap.failed(4)
    cap.failed(2)
    for _ in range(FIRST_TRIAL):
        cap.succeeded(1)
    assert cap.value == 1


def test_a_node_that_sees_endless_keys_does_not_grow() -> None:
    caps, pace = BatchCaps(4), Pace()
    for key in range(3 * MAX_CAPS):
        caps[key].failed(4)
        pace.forward(key, 1, 10.0)
    assert caps[3 * MAX_CAPS - 1].value == 2
    assert caps[0].value == 4
    assert pace.forward_ms(3 * MAX_CAPS - 1, 1) == 10.0
    assert len(pace._forwards) <= MAX_KEYS + 1


def test_a_forward_is_estimated_by_its_own_size_or_the_nearest_one() -> None:
    pace = Pace()
    assert pace.forward_ms("a", 1) == 0
    pace.forward("a", 2, 100.0)
    assert [pace.forward_ms("a", batch) for batch in (1, 2, 4)] == [100, 100, 200]
    assert pace.forward_ms("never seen", 1) == 100
    pace.forward("a", 1, 60.0)
    assert pace.forward_ms("a", 1) == 60


def test_an_estimate_follows_a_change_of_speed() -> None:
    pace = Pace()
    for _ in range(20):
        pace.forward("a", 1, 100.0)
    for _ in range(20):
        pace.forward("a", 1, 200.0)
    assert 195 < pace.forward_ms("a", 1) <= 200


def test_the_time_between_two_steps_counts_every_key_and_the_turns_beyond_the_cap() -> None:
    pace = Pace()
    pace.forward("a", 2, 100.0)
    pace.forward("b", 1, 30.0)
    assert pace.interval_ms("a", {"a": 2}, {"a": 2}) == 100
    assert pace.interval_ms("a", {"a": 2, "b": 1}, {"a": 2, "b": 2}) == 130
    assert pace.interval_ms("b", {"a": 2, "b": 1}, {"a": 2, "b": 2}) == 130
    assert pace.interval_ms("a", {"a": 6}, {"a": 2}) == 300
