"""Results are checked before the gateway hears of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from koma.errors import KomaError
from koma.port.limits import MAX_OUTPUTS
from koma.runtime import results
from koma.runtime.runner import Output, Request


def request_in(folder: Path) -> Request:
    folder.mkdir(exist_ok=True)
    return Request("j", "t", None, {}, folder)


def code_of(outputs: list[Output], folder: Path) -> str:
    with pytest.raises(KomaError) as error:
        results.collect(outputs, request_in(folder))
    return error.value.code


def test_as_many_outputs_as_the_limit_pass_and_one_more_does_not(tmp_path: Path) -> None:
    outputs = [Output(f"o{index}", "text/plain", text="x") for index in range(MAX_OUTPUTS + 1)]
    assert len(results.collect(outputs[:-1], request_in(tmp_path))) == MAX_OUTPUTS
    assert code_of(outputs, tmp_path) == "too_large"


def test_no_output_at_all_is_allowed(tmp_path: Path) -> None:
    assert results.collect([], request_in(tmp_path)) == ()


def test_what_breaks_the_contract_of_a_runner_is_its_failure(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside.txt", tmp_path / "out"
    outside.write_text("x")
    folder.mkdir()
    (folder / "link.txt").symlink_to(outside)
    inside = folder / "inside.txt"
    inside.write_text("x")
    broken = [
        [Output("a", "text/plain")],
        [Output("a", "text/plain", path=inside, text="x")],
        [Output("a", "text/plain", text="x"), Output("a", "text/plain", text="y")],
        [Output("a", "text/plain", path=folder / "missing")],
        [Output("a", "text/plain", path=folder)],
        [Output("a", "text/plain", path=outside)],
        [Output("a", "text/plain", path=folder / "link.txt")],
    ]
    assert {code_of(outputs, folder) for outputs in broken} == {"model_failed"}
    assert results.collect([Output("a", "text/plain", path=inside)], request_in(folder))[0].bytes == 1


def test_discarding_deletes_the_files_and_does_not_mind_missing_ones(tmp_path: Path) -> None:
    kept, dropped = tmp_path / "kept", tmp_path / "dropped"
    kept.write_text("x")
    dropped.write_text("x")
    results.discard(
        [Output("a", "t/p", path=dropped), Output("b", "t/p", path=tmp_path / "no"), Output("c", "t/p")]
    )
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
