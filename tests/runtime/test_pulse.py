"""A pulse tells that long work is alive, and long work that nobody wants it any more."""

from __future__ import annotations

import threading

import pytest

from koma.runtime import pulse
from koma.runtime.pulse import Cancelled, Pulse, beat, operation
from koma.runtime.workers import Activity


def silent_since(seconds: float, one: Pulse) -> None:
    """Let the last beat be so long ago."""
    one.beaten_at -= seconds


def test_a_beat_outside_of_an_operation_does_nothing() -> None:
    beat()
    with pulse.waiting():
        beat()


def test_a_beat_ends_the_silence_and_passes_while_somebody_wants_the_operation() -> None:
    with operation(Pulse()) as one:
        silent_since(100, one)
        assert one.silent_s >= 100
        beat()
        assert one.silent_s < 100


def test_a_beat_of_an_operation_that_nobody_wants_raises_past_handlers_of_exceptions() -> None:
    wanted = True

    def work() -> None:
        try:
            beat()
        except Exception:
            pytest.fail("a library would have taken it for a failure")

    with operation(Pulse(lambda: not wanted)):
        work()
        wanted = False
        with pytest.raises(Cancelled):
            work()
    work()


def test_waiting_for_others_is_no_silence_and_its_end_is_a_beat() -> None:
    with operation(Pulse()) as one:
        with pulse.waiting():
            silent_since(100, one)
            assert one.silent_s == 0
            with pulse.waiting():
                pass
            assert one.silent_s == 0
        assert one.silent_s < 100


def test_an_operation_speaks_for_its_own_thread_only() -> None:
    heard: list[str] = []

    def elsewhere() -> None:
        beat()
        heard.append("no operation here")

    with operation(Pulse(lambda: True)):
        other = threading.Thread(target=elsewhere)
        other.start()
        other.join(20)
    assert heard == ["no operation here"]


def test_busy_is_the_silence_of_the_operation_that_has_been_silent_for_longest() -> None:
    activity, inside, leave = Activity(), threading.Event(), threading.Event()

    def keep_silent() -> None:
        with activity.operation(lambda: False):
            silent_since(1000, next(iter(activity._pulses.values())))
            inside.set()
            leave.wait(20)

    assert activity.busy_ms() == 0
    silent = threading.Thread(target=keep_silent)
    silent.start()
    assert inside.wait(20)
    with activity.operation(lambda: False):
        beat()
        assert activity.busy_ms() >= 1_000_000
        leave.set()
        silent.join(20)
        assert activity.busy_ms() < 1_000_000
    assert activity.busy_ms() == 0
