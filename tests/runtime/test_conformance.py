"""The kit for runners finds those that cannot be cancelled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from koma.models.toy.runner import TASK, ToyRunner, load
from koma.runtime.pulse import Cancelled, Pulse, beat, operation
from koma.runtime.runner import Output, Request, State
from koma.testing.conformance import check_runner

PARAMS = [{"steps": 2, "seed": 1, "output_bytes": 10}, {"steps": 1, "seed": 2}]


class _Silent(ToyRunner):
    """Beats for nobody."""

    def prepare(self, request: Request) -> State:  # type: ignore[override]
        with operation(Pulse()):
            return super().prepare(request)


class _Stubborn(ToyRunner):
    """Takes a cancel for a failure that passes."""

    def finish(self, state: State) -> list[Output]:
        try:
            return super().finish(state)
        except Cancelled:
            with operation(Pulse()):
                return super().finish(state)


class _Untidy(ToyRunner):
    """Leaves what it has written."""

    def finish(self, state: State) -> list[Output]:
        (state.request.folder() / "half").write_text("a half")
        return super().finish(state)


@pytest.mark.parametrize(
    ("broken", "promise"),
    [(_Silent, "never beats"), (_Stubborn, "went on to its end"), (_Untidy, "left")],
)
def test_a_runner_that_cannot_be_cancelled_is_told_why(
    broken: type[ToyRunner], promise: str, tmp_path: Path
) -> None:
    toy = load("toy", "auto", "auto", 2, {})
    check_runner(toy, PARAMS, task=TASK, folder=tmp_path / "sound")
    with pytest.raises(AssertionError, match=promise):
        check_runner(broken(toy.loaded, None), PARAMS, task=TASK, folder=tmp_path / "broken")


class _Unmarked(ToyRunner):
    """Writes a picture by itself, so that no mark gets into its pixels."""

    def finish(self, state: State) -> list[Output]:
        beat()
        path = state.request.folder() / "image.png"
        Image.new("RGB", (64, 64)).save(path)
        return [Output("result", "image/png", path=path)]


def test_a_runner_whose_pictures_bear_no_mark_is_told_how_to_write_them(tmp_path: Path) -> None:
    runner = _Unmarked(load("toy", "auto", "auto", 2, {}).loaded, None)
    runner.tasks = {TASK: replace(runner.tasks[TASK], outputs={"result": "image/png"})}
    with pytest.raises(AssertionError, match=r"write it with koma\.models\.media\.encode"):
        check_runner(runner, PARAMS, task=TASK, folder=tmp_path)
