"""Workers: first come, first served, and no long item keeps short ones waiting for ever."""

from __future__ import annotations

import threading
from queue import SimpleQueue

from koma.runtime.workers import Worker

WAIT = 20.0


class Bench:
    """A worker whose items wait at a gate of their own; tells which have begun and ended."""

    def __init__(self, threads: int, at_once: int, patience_s: float) -> None:
        self.begun: SimpleQueue[str] = SimpleQueue()
        self.ended: SimpleQueue[str] = SimpleQueue()
        self.gates: dict[str, threading.Event] = {}
        self.worker = Worker("bench", self._work, threads, at_once, patience_s)

    def put(self, *names: str) -> None:
        """Hand over items."""
        for name in names:
            self.gates[name] = threading.Event()
            self.worker.put(name)

    def stop(self) -> None:
        """Let everything end."""
        for gate in self.gates.values():
            gate.set()
        self.worker.stop()

    def _work(self, name: str) -> None:
        self.begun.put(name)
        assert self.gates[name].wait(WAIT)
        self.ended.put(name)


def test_items_begin_in_their_order_and_no_more_at_once_than_allowed() -> None:
    bench = Bench(threads=4, at_once=2, patience_s=3600)
    names = [f"{number}" for number in range(12)]
    bench.put(*names)
    running = [bench.begun.get(timeout=WAIT), bench.begun.get(timeout=WAIT)]
    assert sorted(running) == names[:2]
    for following in names[2:]:
        assert bench.begun.empty()
        bench.gates[running.pop(0)].set()
        assert bench.begun.get(timeout=WAIT) == following
        running.append(following)
    bench.stop()


def test_long_items_soon_give_their_places_to_those_behind_them() -> None:
    bench = Bench(threads=4, at_once=2, patience_s=0.05)
    bench.put("long 1", "long 2", "short")
    assert [bench.begun.get(timeout=WAIT) for _ in range(3)][-1] == "short"
    assert bench.ended.empty(), "both long ones still run"
    bench.stop()
    assert sorted(bench.ended.get(timeout=WAIT) for _ in range(3)) == ["long 1", "long 2", "short"]


def test_however_many_items_are_long_there_are_no_more_than_the_threads() -> None:
    bench = Bench(threads=3, at_once=1, patience_s=0.01)
    bench.put("1", "2", "3", "4")
    assert [bench.begun.get(timeout=WAIT) for _ in range(3)] == ["1", "2", "3"]
    bench.gates["2"].set()
    assert bench.begun.get(timeout=WAIT) == "4"
    bench.stop()


def test_what_was_handed_over_before_the_end_is_done() -> None:
    bench = Bench(threads=2, at_once=1, patience_s=3600)
    bench.put("1", "2", "3")
    bench.stop()
    assert [bench.ended.get(timeout=WAIT) for _ in range(3)] == ["1", "2", "3"]
