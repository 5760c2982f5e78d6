"""Turns: one thread computes at a time, in the order in which they asked."""

from __future__ import annotations

import threading
from queue import SimpleQueue

import pytest

from koma.runtime.pulse import Cancelled, Pulse, operation
from koma.runtime.turns import Turns

WAIT = 20.0


def test_whoever_waits_goes_before_the_one_who_has_just_been() -> None:
    """Whoever gives the turn up and asks again gets it after all who waited, in their order."""
    turns, order = Turns(), SimpleQueue[str]()

    def take(name: str) -> None:
        with turns.turn():
            order.put(name)

    waiting: list[threading.Thread] = []
    with turns.turn():
        for name in ("first", "second"):
            waiting.append(threading.Thread(target=take, args=(name,)))
            waiting[-1].start()
            while len(turns._waiting) < len(waiting):  # it has asked
                threading.Event().wait(0.001)
    take("again")
    for thread in waiting:
        thread.join(WAIT)
    assert [order.get(timeout=WAIT) for _ in range(3)] == ["first", "second", "again"]


def test_two_threads_never_compute_at_once() -> None:
    """However often many threads take turns, the turn is nobody else's."""
    turns, inside, most = Turns(), [0], [0]

    def take() -> None:
        for _ in range(200):
            with turns.turn():
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive()
    assert most[0] == 1


def test_an_error_gives_the_turn_up() -> None:
    """Whoever raises does not keep the others waiting."""
    turns = Turns()
    with pytest.raises(ValueError, match="broken"), turns.turn():
        raise ValueError("broken")
    with turns.turn():
        pass


def test_waiting_for_a_turn_is_no_silence_and_ends_where_nobody_wants_the_operation() -> None:
    """Whoever is cancelled leaves the queue at once; those behind it get their turn all the same."""
    turns, wanted, left = Turns(), threading.Event(), SimpleQueue[str]()
    wanted.set()
    pulse = Pulse(lambda: not wanted.is_set())

    def wait_in_vain() -> None:
        try:
            with operation(pulse), turns.turn():
                left.put("had a turn")
        except Cancelled:
            left.put("cancelled")

    def wait_behind() -> None:
        with turns.turn():
            left.put("behind")

    with turns.turn():
        for number, target in enumerate((wait_in_vain, wait_behind), start=1):
            threading.Thread(target=target, daemon=True).start()
            while len(turns._waiting) < number:
                threading.Event().wait(0.001)
        pulse.beaten_at -= 1000
        assert pulse.silent_s == 0
        wanted.clear()
        assert left.get(timeout=WAIT) == "cancelled"
    assert left.get(timeout=WAIT) == "behind"
    with turns.turn():
        pass
