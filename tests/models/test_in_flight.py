"""The real families in the real engine: jobs join late, leave early, and get what they would get alone."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.driving import run_alone

from koma.models import registry
from koma.models.media import encode as media
from koma.models.media import video
from koma.port.messages import Done, Failed, InputRef, Progress, Submit, Token
from koma.runtime.runner import InputFile, Output, Request, State
from koma.testing.conformance import check_runner, same_bytes
from koma.testing.scripted import RunningEngine

TASKS = {"amused": "image.generate", "ltx_video": "video.generate", "smolvlm2": "video.understand"}
JOBS: dict[str, list[dict[str, Any]]] = {
    "amused": [{"prompt": f"number {k}", "steps": n, "seed": k} for k, n in enumerate([12, 8, 5])],
    "ltx_video": [
        {"prompt": f"number {k}", "steps": n, "seed": k, "frames": 5} for k, n in enumerate([12, 8, 5])
    ],
    "smolvlm2": [
        {"prompt": "say" * (k + 1), "max_new_tokens": n, "seed": k} for k, n in enumerate([12, 8, 5])
    ],
}


class Gate:
    """Lets forwards of a runner through one by one, and remembers who was prepared and who took part."""

    def __init__(self, runner: Any) -> None:
        self.forwards: list[list[str]] = []
        self.states: dict[str, Any] = {}
        self._permits = threading.Semaphore(0)
        self._opened = 0
        self._prepared: dict[str, threading.Event] = defaultdict(threading.Event)
        self._step, self._prepare = runner.step, runner.prepare
        runner.step, runner.prepare = self._gated, self._noted

    def open(self, forwards: int) -> None:
        """Allow so many forwards in all."""
        while self._opened < forwards:
            self._opened += 1
            self._permits.release()

    def wait_until_prepared(self, job: str) -> None:
        """Return when a job can take part in the next forward that is put together."""
        assert self._prepared[job].wait(timeout=20), f"{job} was never prepared"

    def _noted(self, request: Request) -> State:
        state = self._prepare(request)
        self._prepared[request.id].set()
        return state

    def _gated(self, states: Sequence[State]) -> None:
        assert self._permits.acquire(timeout=20), "nobody opened the gate"
        self.forwards.append([state.request.id for state in states])
        self.states.update({state.request.id: state for state in states})
        self._step(states)


@pytest.fixture(params=list(TASKS))
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def runner(family: str, checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Any:
    loaded: Any = registry.load(family, str(checkpoint(family)), "cpu", "float32", 4, {})
    if family == "smolvlm2":  # untrained answers end anywhere; here they go on to their last token
        monkeypatch.setattr(loaded._parts.model.generation_config, "eos_token_id", -1)
    return loaded


@pytest.fixture
def inputs(family: str, tmp_path: Path) -> list[dict[str, InputFile]]:
    """A picture of its own for each SmolVLM2 job, nothing for the others."""
    if family != "smolvlm2":
        return [{}, {}, {}]
    noise = np.random.default_rng(0).integers(0, 255, (3, 48, 64, 3), dtype=np.uint8)
    paths = [media.write_png(tmp_path, pixels) for pixels in noise]
    return [
        {"image": InputFile(path, f"digest {k}", "image/png", path.stat().st_size)}
        for k, path in enumerate(paths)
    ]


def _submit(
    engine: RunningEngine, family: str, job: str, params: Any, inputs: Mapping[str, InputFile]
) -> None:
    refs = {
        name: InputRef(str(file.path), file.sha256, file.media_type, file.bytes)
        for name, file in inputs.items()
    }
    folder = str(engine._folder / job)
    engine.engine.submit(Submit(job, 1, TASKS[family], params, refs, folder, False))


def _result(family: str, state: Any) -> Any:
    """What a job's steps made: tokens or latents."""
    return state.latents if family == "ltx_video" else state.tokens


def _equal(family: str, ours: Any, alone: Any) -> bool:
    if family == "ltx_video":
        return float((ours - alone).abs().max()) < 1e-4
    return torch.equal(ours, alone) if family == "amused" else bool(ours == alone)


def test_jobs_of_12_8_5_steps_arriving_at_0_3_5_take_at_most_13_forwards_and_equal_their_solo_runs(
    family: str, runner: Any, inputs: list[dict[str, InputFile]], request_of: Any, tmp_path: Path
) -> None:
    alone = [
        run_alone(runner, request_of(runner, TASKS[family], given, **params))
        for params, given in zip(JOBS[family], inputs, strict=True)
    ]
    gate = Gate(runner)
    names = ["a", "b", "c"]
    with RunningEngine(runner, tmp_path) as engine:
        for k, (name, arrival) in enumerate(zip(names, [0, 3, 5], strict=True)):
            gate.open(arrival)
            if arrival:
                engine.wait_for(Progress, "a", phase="step", step=arrival)
            _submit(engine, family, name, JOBS[family][k], inputs[k])
            gate.wait_until_prepared(name)
        gate.open(20)
        done = engine.wait_for_all(Done, names)
    assert len(gate.forwards) <= 13
    for name, solo in zip(names, alone, strict=True):
        assert _equal(family, _result(family, gate.states[name]), _result(family, solo))
    if family == "smolvlm2":
        for name in names:
            told = "".join(m.text for m in engine.heard if isinstance(m, Token) and m.id == name)
            assert told == done[name].outputs[0].text


def test_a_cancelled_job_is_told_so_and_takes_part_in_no_later_forward(
    family: str, runner: Any, inputs: list[dict[str, InputFile]], tmp_path: Path
) -> None:
    gate = Gate(runner)
    with RunningEngine(runner, tmp_path) as engine:
        for name, params, given in zip(["stays", "leaves"], JOBS[family], inputs, strict=False):
            _submit(engine, family, name, params, given)
            gate.wait_until_prepared(name)
        gate.open(1)
        engine.wait_for(Progress, "stays", phase="step", step=1)
        engine.engine.cancel("leaves")
        gate.open(20)
        told = engine.wait_for_all(Done, ["stays"]), [m for m in engine.heard if isinstance(m, Failed)]
    assert [(failed.id, failed.code) for failed in told[1]] == [("leaves", "cancelled")]
    with_it = [number for number, jobs in enumerate(gate.forwards) if "leaves" in jobs]
    assert max(with_it, default=0) <= 2, "one forward may have begun already"
    assert gate.states["stays"].done


def _same_frames(first: Sequence[Output], second: Sequence[Output]) -> bool:
    """Whether two videos show the same; rounding may differ by a grey level before compression."""
    shown = []
    for output in (first[0], second[0]):
        assert output.path is not None
        file = InputFile(output.path, "", "video/mp4", 0)
        shown.append(video.frames(file, range(video.probe(file, "video").frames), "video").astype(int))
    return shown[0].shape == shown[1].shape and np.abs(shown[0] - shown[1]).mean() < 1


def test_every_family_keeps_the_contract_of_a_runner(
    family: str, runner: Any, inputs: list[dict[str, InputFile]], tmp_path: Path
) -> None:
    same = _same_frames if family == "ltx_video" else same_bytes
    check_runner(
        runner, JOBS[family], task=TASKS[family], folder=tmp_path / "kit", inputs=inputs[0], same=same
    )


def test_every_family_runs_in_the_number_format_of_gpus(
    family: str, checkpoint: Callable[[str], Path], inputs: list[dict[str, InputFile]], request_of: Any
) -> None:
    runner = registry.load(family, str(checkpoint(family)), "cpu", "bfloat16", 4, {})
    states = [
        runner.prepare(request_of(runner, TASKS[family], given, **params))
        for params, given in zip(JOBS[family], inputs, strict=True)
    ]
    while live := [state for state in states if not state.done]:
        runner.step(live)
    assert all(runner.finish(state) for state in states)
    assert runner.loaded.dtype == "bfloat16"


def test_a_family_without_a_picture_or_with_a_broken_one_fails_that_job_alone(
    tmp_path: Path, checkpoint: Any
) -> None:
    runner = registry.load("smolvlm2", str(checkpoint("smolvlm2")), "cpu", "float32", 4, {})
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(30))
    whole = media.write_png(tmp_path, np.zeros((8, 8, 3), dtype=np.uint8))
    given = {
        "none": {},
        "broken": {"image": InputFile(broken, "1", "image/png", 38)},
        "whole": {"image": InputFile(whole, "2", "image/png", whole.stat().st_size)},
    }
    with RunningEngine(runner, tmp_path) as engine:
        for name, inputs in given.items():
            _submit(engine, "smolvlm2", name, {"max_new_tokens": 3}, inputs)
        ends = engine.wait_for_ends(list(given))
    codes = {name: end.code if isinstance(end, Failed) else "done" for name, end in ends.items()}
    assert codes == {"none": "missing_field", "broken": "invalid_media", "whole": "done"}
