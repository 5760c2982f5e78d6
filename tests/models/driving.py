"""Feeds a runner as the engine does: jobs join and leave at step boundaries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from koma.runtime.runner import Request, Runner, State


class ForwardCounter:
    """Counts the forwards of a module and the rows of each."""

    def __init__(self, module: Any) -> None:
        self.rows: list[int] = []
        module.register_forward_hook(self._seen, with_kwargs=True)

    def _seen(self, module: Any, args: Any, kwargs: Mapping[str, Any], output: Any) -> None:
        first = args[0] if args else next(value for value in kwargs.values() if hasattr(value, "shape"))
        self.rows.append(len(first))


def run_alone(runner: Runner, request: Request) -> Any:
    """Run one job to its last step."""
    state = runner.prepare(request)
    while not state.done:
        runner.step([state])
    return state


def run_arriving(
    runner: Runner,
    arrivals: Mapping[int, Request],
    leave: Mapping[int, int] | None = None,
    texts: dict[str, str] | None = None,
) -> list[Any]:
    """Run jobs that arrive at the given ticks, all of one key.

    Args:
        runner: the runner under test.
        arrivals: tick -> request, in order.
        leave: number of a job (in order of arrival) -> tick at which it is cancelled.
        texts: filled with the streamed text by job id.
    """
    states: list[State] = []
    streamed = {} if texts is None else texts
    tick = 0
    while tick <= max(arrivals) or any(not state.done for state in live_at(states, leave, tick)):
        if tick in arrivals:
            states.append(runner.prepare(arrivals[tick]))
        live = [state for state in live_at(states, leave, tick) if not state.done]
        assert len({runner.key(state) for state in live}) <= 1
        if live:
            runner.step(live)
        for state in live:
            streamed[state.request.id] = streamed.get(state.request.id, "") + runner.text(state)
        tick += 1
    return states


def live_at(states: list[State], leave: Mapping[int, int] | None, tick: int) -> list[State]:
    """The states that were not cancelled before ``tick``."""
    gone = {number for number, when in (leave or {}).items() if tick >= when}
    return [state for number, state in enumerate(states) if number not in gone]
