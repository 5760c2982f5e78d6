"""Options of the `koma` command that need no server."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from koma.cli.options import Common, free_to_write, given, input_file, parse_settings, parse_size


def test_options_that_were_not_given_are_left_to_the_server() -> None:
    assert given(steps=None, seed=0, prompt="") == {"seed": 0, "prompt": ""}


def test_a_size_is_width_times_height() -> None:
    assert parse_size("128x96") == {"width": 128, "height": 96}
    assert parse_size(None) == {}


@pytest.mark.parametrize("size", ["128", "x", "128x", "-1x2", "1.5x2", "128 by 96", "9999999x1"])
def test_a_size_of_another_form_is_a_usage_error(size: str) -> None:
    with pytest.raises(typer.BadParameter, match="WIDTHxHEIGHT"):
        parse_size(size)


def test_settings_are_grouped_by_stage_and_read_as_json_or_text() -> None:
    settings = ["image.steps=8", "image.prompt=a=b", "video.fps=null", "caption.prompt=What is it?"]
    assert parse_settings(settings) == {
        "image": {"steps": 8, "prompt": "a=b"},
        "video": {"fps": None},
        "caption": {"prompt": "What is it?"},
    }


@pytest.mark.parametrize("setting", ["steps=8", "image.steps", ".steps=8", "image.=8", "a.b.c=1"])
def test_a_setting_of_another_form_is_a_usage_error(setting: str) -> None:
    with pytest.raises(typer.BadParameter, match="STAGE"):
        parse_settings([setting])


def test_an_input_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="No such file"):
        input_file(tmp_path / "absent.mp4")
    with pytest.raises(typer.BadParameter, match="directory"):
        input_file(tmp_path)


def test_files_that_are_there_are_named_before_any_work(tmp_path: Path) -> None:
    there = tmp_path / "a.png"
    there.touch()
    with pytest.raises(typer.BadParameter, match=r"a\.png.*--force"):
        free_to_write([tmp_path / "b.png", there], force=False)
    free_to_write([there], force=True)


def test_a_bad_address_is_a_usage_error() -> None:
    with pytest.raises(typer.BadParameter, match="address"):
        Common(server="localhost").client()
