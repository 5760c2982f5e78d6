"""The toy family: deterministic, and it fails as told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from koma.errors import KomaError
from koma.models import registry
from koma.models.toy.runner import TASK, ToyRunner, load
from koma.runtime.parameters import check
from koma.runtime.runner import InputFile, Output, Request
from koma.testing.conformance import check_runner


def toy(**options: Any) -> ToyRunner:
    return load("untrained", "auto", "auto", 4, options)


def run(folder: Path, attempt: int = 1, file: Path | None = None, **params: Any) -> list[Output]:
    runner = toy()
    checked = check(runner.tasks[TASK].params, params)
    inputs = {} if file is None else {"file": InputFile(file, "0" * 64, "text/plain", file.stat().st_size)}
    state = runner.prepare(Request("j", TASK, checked, inputs, folder, attempt))
    while not state.done:
        runner.step([state])
        runner.preview(state)
    return runner.finish(state)


def result(outputs: list[Output]) -> Any:
    (output,) = outputs
    return json.loads(output.path.read_text() if output.path else output.text or "")


def test_the_toy_passes_the_conformance_kit(tmp_path: Path) -> None:
    params = [
        {"steps": 5, "seed": 1, "tokens": True, "preview_bytes": 64},
        {"steps": 2, "seed": 2, "output_bytes": 5000},
        {"steps": 3, "seed": 3, "step_ms": 1},
    ]
    check_runner(toy(), params, task=TASK, folder=tmp_path)


def test_equal_seeds_give_equal_bytes_and_others_do_not(tmp_path: Path) -> None:
    assert run(tmp_path, seed=1)[0].text == run(tmp_path, seed=1)[0].text
    assert run(tmp_path, seed=1)[0].text != run(tmp_path, seed=2)[0].text


@pytest.mark.parametrize("size", [1, 1000, 100_001])
def test_the_result_has_at_least_the_size_that_was_asked_for(tmp_path: Path, size: int) -> None:
    (output,) = run(tmp_path, seed=1, output_bytes=size)
    assert output.path is not None
    assert size <= output.path.stat().st_size <= size + 200


def test_a_file_becomes_part_of_the_result(tmp_path: Path) -> None:
    file = tmp_path / "in.txt"
    file.write_text("one")
    first = result(run(tmp_path, seed=1, file=file))
    file.write_text("two")
    assert result(run(tmp_path, seed=1, file=file))["digest"] != first["digest"]


@pytest.mark.parametrize("fault", ["prepare", "step", "preview", "finish", "oom"])
def test_a_fault_strikes_only_in_as_many_attempts_as_told(tmp_path: Path, fault: str) -> None:
    params: dict[str, Any] = {"seed": 1, "fail": fault, "fail_attempts": 1, "preview_bytes": 1}
    with pytest.raises((RuntimeError, MemoryError), match="told to"):
        run(tmp_path, attempt=1, **params)
    assert result(run(tmp_path, attempt=2, **params))["seed"] == 1


def test_a_fault_of_stepping_strikes_in_its_step_and_changes_nothing(tmp_path: Path) -> None:
    runner = toy()
    params = check(runner.tasks[TASK].params, {"steps": 4, "seed": 1, "fail": "step", "fail_at": 2})
    state = runner.prepare(Request("j", TASK, params, {}, tmp_path))
    runner.step([state])
    runner.step([state])
    digest = state.digest
    with pytest.raises(RuntimeError, match="step 2"):
        runner.step([state])
    assert (state.step, state.digest, state.done) == (2, digest, False)


def test_printing_garbage_is_no_failure(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert result(run(tmp_path, seed=1, fail="print"))["steps"] == 4


def test_an_option_that_the_toy_does_not_have_is_named() -> None:
    with pytest.raises(KomaError, match="no option colour") as error:
        toy(colour="red")
    assert (error.value.code, error.value.field) == ("load_failed", "options.colour")


def test_a_family_that_is_not_registered_is_named_with_the_known_ones() -> None:
    with pytest.raises(KomaError, match="no family named stable is installed; installed are amused") as error:
        registry.load("stable", "x", "auto", "auto", 1, {})
    assert error.value.code == "load_failed"
