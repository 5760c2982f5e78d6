"""The engine marks what any family makes, and gives no result without its marks."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from PIL import Image
from tests.provenance.pictures import picture

from koma.models.media import encode
from koma.port.messages import Done, Failed
from koma.provenance.mark import detect
from koma.provenance.settings import Settings
from koma.provenance.signing import files
from koma.provenance.step import Provenance
from koma.runtime.runner import Loaded, Output, State
from koma.testing.marked import frames
from koma.testing.scripted import RunningEngine, ScriptedRunner

LOADED = Loaded("painter", "none", "ab" * 32, "cpu", "none")


class _Painter(ScriptedRunner):
    """Writes a picture with Koma's writer."""

    def finish(self, state: State) -> list[Output]:
        pixels = picture(3, 64, 64)
        return [Output("image", "image/png", path=encode.write_png(state.request.folder(), pixels))]


class _Forgetful(ScriptedRunner):
    """Writes a picture by itself."""

    def finish(self, state: State) -> list[Output]:
        path = state.request.folder() / "image.png"
        Image.fromarray(picture(3, 64, 64)).save(path)
        return [Output("image", "image/png", path=path)]


class _Inline(ScriptedRunner):
    """Gives a drawing as text."""

    def finish(self, state: State) -> list[Output]:
        return [Output("image", "image/svg+xml", text="<svg/>")]


@pytest.fixture(scope="module")
def marks(tmp_path_factory: pytest.TempPathFactory) -> Provenance:
    return Provenance.open(Settings(tmp_path_factory.mktemp("keys")), LOADED, "1")


def test_a_picture_is_marked_and_signed_and_its_digest_is_that_of_the_signed_file(
    tmp_path: Path, marks: Provenance
) -> None:
    with RunningEngine(_Painter(), tmp_path, marks=marks) as engine:
        engine.submit("a", steps=1)
        engine.submit("b", steps=1)
        [first] = engine.wait_for(Done, "a").outputs
        [second] = engine.wait_for(Done, "b").outputs
    assert first.path is not None
    assert second.path is not None
    assert first.meta["marks"] == second.meta["marks"], "equal pixels bear equal marks"
    reading = detect.detect(frames(Path(first.path), "image/png"), marks.pattern)
    assert reading is not None
    assert reading.found
    assert reading.payload.id == first.meta["marks"]["id"]
    assert marks.signer is not None
    with Path(first.path).open("rb") as file:
        assert files.read(file, "image/png", [marks.signer.chain.anchors]).state == "Trusted"
        file.seek(0)
        assert hashlib.sha256(file.read()).hexdigest() == first.sha256


@pytest.mark.parametrize("runner", [_Forgetful, _Inline])
def test_a_picture_without_its_mark_is_no_result_and_leaves_nothing(
    runner: type[ScriptedRunner], tmp_path: Path, marks: Provenance
) -> None:
    with RunningEngine(runner(), tmp_path, marks=marks) as engine:
        engine.submit("a", steps=1)
        failure = engine.wait_for(Failed, "a")
    assert (failure.code, failure.field, failure.value) == ("provenance_failed", "outputs", "image")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_picture_too_small_for_the_mark_is_signed_and_says_so(tmp_path: Path, marks: Provenance) -> None:
    class Tiny(ScriptedRunner):
        def finish(self, state: State) -> list[Output]:
            pixels = picture(3, 16, 16)
            return [Output("image", "image/png", path=encode.write_png(state.request.folder(), pixels))]

    with RunningEngine(Tiny(), tmp_path, marks=marks) as engine:
        engine.submit("a", steps=1)
        [output] = engine.wait_for(Done, "a").outputs
    assert output.meta["marks"] == {"signed": True}


def test_texts_are_not_touched(tmp_path: Path, marks: Provenance) -> None:
    with RunningEngine(ScriptedRunner(), tmp_path, marks=marks) as engine:
        engine.submit("a", steps=1)
        outputs = engine.wait_for(Done, "a").outputs
    assert all("marks" not in output.meta for output in outputs)
