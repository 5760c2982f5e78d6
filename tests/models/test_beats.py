"""Cancel within a phase of the shipped checkpoints: at most one layer or frame is worked on after it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from koma.models import registry
from koma.models.lru import Lru
from koma.models.media import encode as media
from koma.models.media import video
from koma.port.messages import Done, Failed, InputRef, Submit
from koma.runtime.pulse import Cancelled, Pulse, beat, operation
from koma.runtime.runner import InputFile
from koma.testing.scripted import RunningEngine

SIZES = {"amused": {"n": 2, "steps": 2}, "ltx_video": {"steps": 2}, "smolvlm2": {"max_new_tokens": 4}}


@dataclass(frozen=True)
class Case:
    """Where a job is cancelled: in the forward number ``at`` of some modules, counted from the first."""

    family: str
    phase: str
    modules: Callable[[Any], Iterable[nn.Module]]
    at: int
    given: str | None = None


def _convolutions(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Conv3d)]


CASES = [
    Case("smolvlm2", "vision", lambda parts: parts.model.model.vision_model.encoder.layers, 6, "video"),
    Case("smolvlm2", "prompt", lambda parts: parts.model.model.text_model.layers, 2, "image"),
    Case("smolvlm2", "step", lambda parts: parts.model.model.text_model.layers, 4 + 2, "image"),
    Case("amused", "prompt", lambda parts: parts.text_encoder.text_model.encoder.layers, 1),
    Case("amused", "step", lambda parts: parts.transformer.transformer_layers, 2),
    Case("amused", "VQ model", lambda parts: _convolutions(parts.vqvae.decoder), 5),
    Case("ltx_video", "prompt", lambda parts: parts.text_encoder.encoder.block, 1),
    Case("ltx_video", "first image", lambda parts: _convolutions(parts.vae.encoder), 3, "image"),
    Case("ltx_video", "step", lambda parts: parts.transformer.transformer_blocks, 3),
    Case("ltx_video", "VAE", lambda parts: _convolutions(parts.vae.decoder), 4),
]


@pytest.fixture(scope="module")
def runners() -> dict[str, Any]:
    return {family: registry.load(family, "emoji", "cpu", "float32", 2, {}) for family in SIZES}


@pytest.fixture(scope="module")
def references() -> dict[str, Any]:
    """The same again, in which no job was ever cancelled."""
    return {family: registry.load(family, "emoji", "cpu", "float32", 2, {}) for family in SIZES}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, InputFile]:
    folder, random = tmp_path_factory.mktemp("inputs"), np.random.default_rng(3)
    frames = random.integers(0, 255, (96, 64, 64, 3), dtype=np.uint8)
    paths = {
        "image": (media.write_png(folder, frames[0]), "image/png"),
        "video": (media.write_mp4(folder, frames, 12), "video/mp4"),
    }
    return {
        name: InputFile(path, hashlib.sha256(path.read_bytes()).hexdigest(), kind, path.stat().st_size)
        for name, (path, kind) in paths.items()
    }


class Forwards:
    """Counts the forwards of some modules, and calls a function within one of them."""

    def __init__(self, modules: Iterable[nn.Module], at: int, then: Callable[[], None]) -> None:
        self.count, self._at, self._then = 0, at, then
        self._hooks = [module.register_forward_pre_hook(self._seen) for module in modules]

    def _seen(self, _module: nn.Module, _arguments: Any) -> None:
        self.count += 1
        if self.count == self._at:
            self._then()

    def forget(self) -> None:
        """Count no more."""
        for hook in self._hooks:
            hook.remove()


def _submit(engine: RunningEngine, runner: Any, case: Case, job: str, inputs: Any, folder: Path) -> None:
    [task] = runner.tasks
    params = {"prompt": f"{case.family} {case.phase}", "seed": 5, **SIZES[case.family]}
    files = {} if case.given is None else {case.given: inputs[case.given]}
    refs = {
        name: InputRef(str(file.path), file.sha256, file.media_type, file.bytes)
        for name, file in files.items()
    }
    engine.engine.submit(Submit(job, 1, task, params, refs, str(folder / job), False))


def _results(done: Done) -> list[str]:
    return [output.sha256 for output in done.outputs]


def _undisturbed(runner: Any, case: Case, inputs: Any, folder: Path) -> list[str]:
    with RunningEngine(runner, folder) as engine:
        _submit(engine, runner, case, "undisturbed", inputs, folder)
        return _results(engine.wait_for(Done))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.family}: {case.phase}")
def test_a_job_cancelled_within_a_forward_ends_with_the_next_layer_and_spoils_nothing(
    case: Case, runners: Any, references: Any, inputs: Any, tmp_path: Path
) -> None:
    runner = runners[case.family]
    with RunningEngine(runner, tmp_path) as engine:
        forwards = Forwards(case.modules(runner._parts), case.at, lambda: engine.engine.cancel("a"))
        _submit(engine, runner, case, "a", inputs, tmp_path)
        assert engine.wait_for(Failed, "a").code == "cancelled"
        forwards.forget()
        assert case.at <= forwards.count <= case.at + 1
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
        _submit(engine, runner, case, "again", inputs, tmp_path)
        again = _results(engine.wait_for(Done, "again"))
    assert again == _undisturbed(references[case.family], case, inputs, tmp_path)


def test_the_cancel_of_a_job_does_not_fail_another_that_looks_at_the_same_picture(
    runners: Any, references: Any, inputs: Any, tmp_path: Path
) -> None:
    case = Case("smolvlm2", "shared", lambda parts: parts.model.model.vision_model.encoder.layers, 2, "image")
    runner: Any = registry.load("smolvlm2", "emoji", "cpu", "float32", 2, {})
    with RunningEngine(runner, tmp_path) as engine:

        def replace() -> None:
            _submit(engine, runner, case, "b", inputs, tmp_path)
            engine.engine.cancel("a")

        forwards = Forwards(case.modules(runner._parts), case.at, replace)
        _submit(engine, runner, case, "a", inputs, tmp_path)
        ends = engine.wait_for_ends(["a", "b"])
        forwards.forget()
    assert isinstance(ends["a"], Failed)
    assert isinstance(ends["b"], Done)
    assert _results(ends["b"]) == _undisturbed(references["smolvlm2"], case, inputs, tmp_path)


def test_what_is_cancelled_while_it_is_made_is_not_remembered() -> None:
    kept: Lru[str] = Lru(2)

    def make() -> str:
        beat()
        return "value"

    with pytest.raises(Cancelled), operation(Pulse(lambda: True)):
        kept.get("key", make)
    assert kept.find("key") is None
    assert kept.get("key", make) == "value"


@pytest.fixture(params=["mp4", "png"])
def write(request: pytest.FixtureRequest) -> Callable[[Path], Any]:
    """Writes thirty frames, or a picture of several pieces."""
    random = np.random.default_rng(0)
    if request.param == "mp4":
        frames = random.integers(0, 255, (30, 64, 64, 3), dtype=np.uint8)
        return lambda folder: media.write_mp4(folder, frames, 8)
    pictures = list(random.integers(0, 255, (2, 200, 600, 3), dtype=np.uint8))
    return lambda folder: media.write_pictures(folder, pictures, "image/png")


class Beats:
    """Counts the beats of what is done inside, and cancels it at one of them."""

    def __init__(self, last: int | None = None) -> None:
        self.count, self._last = 0, last

    def seen(self) -> bool:
        """Whether that was the last one."""
        self.count += 1
        return self.count == self._last


def test_a_file_whose_writing_is_cancelled_ends_with_that_piece_and_leaves_nothing(
    write: Callable[[Path], Any], tmp_path: Path
) -> None:
    whole = Beats()
    with operation(Pulse(whole.seen)):
        write(tmp_path)
    assert whole.count >= 10
    for path in tmp_path.iterdir():
        path.unlink()
    for last in (1, whole.count // 2, whole.count):
        some = Beats(last)
        with pytest.raises(Cancelled), operation(Pulse(some.seen)):
            write(tmp_path)
        assert some.count == last
        assert list(tmp_path.iterdir()) == []


def test_decoding_that_is_cancelled_ends_with_the_frame_that_it_is_at(inputs: dict[str, InputFile]) -> None:
    clip = inputs["video"]

    def read() -> None:
        video.probe(clip, "inputs.video")
        video.frames(clip, range(96), "inputs.video")

    whole = Beats()
    with operation(Pulse(whole.seen)):
        read()
    assert whole.count >= 96
    for last in (1, whole.count // 2, whole.count - 1):
        some = Beats(last)
        with pytest.raises(Cancelled), operation(Pulse(some.seen)):
            read()
        assert some.count == last
