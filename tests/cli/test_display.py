"""What a user sees of running jobs."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image
from rich.console import Console

from koma.cli.display import JsonDisplay, LineDisplay
from koma.cli.live import LiveDisplay, half_blocks
from koma.client import Completed, Failed, Output, Preview, Progress, Queued, Retrying, Started, Token
from koma.client.events import Event


def progress(step: int) -> Progress:
    return Progress(id="7", seq=step + 2, at=0, phase="step", step=step, total=12, eta_ms=1500)


def png(width: int = 8, height: int = 4) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (255, 0, 0)).save(file, "PNG")
    return file.getvalue()


PREVIEW = Preview(id="7", step=3, total=12, media_type="image/png", width=8, height=4, data=png())
STARTED = Started(id="7", seq=2, at=0, attempt=1, node="amused-1", total=12)
COMPLETED = Completed(id="7", seq=15, at=0, outputs=(Output(name="image", media_type="image/png", size=9),))


def test_json_lines_have_the_shapes_of_the_interface(capsys: pytest.CaptureFixture[str]) -> None:
    display = JsonDisplay()
    display.event("image", progress(3))
    display.event("image", COMPLETED)
    display.preview("image", PREVIEW, None)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["event"] == "progress"
    assert lines[0] | {"step": 3, "total": 12, "eta_ms": 1500, "seq": 5} == lines[0]
    assert lines[1]["outputs"][0]["bytes"] == 9
    assert lines[2]["event"] == "preview"
    assert "data" not in lines[2]


def lines_of(*events: Event) -> list[str]:
    console = Console(file=io.StringIO(), width=200)
    display = LineDisplay(console)
    for event in events:
        display.event("image", event)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_log_gets_a_line_for_each_change_and_not_for_each_step() -> None:
    lines = lines_of(Queued(id="7", seq=1, position=2), STARTED, *map(progress, range(1, 13)), COMPLETED)
    assert lines[0] == "image: queued at position 2"
    assert lines[1] == "image: started on amused-1"
    assert lines[-2].startswith("image: step 12/12")
    assert lines[-1] == "image: done"
    assert len(lines) < 8


def test_a_retry_is_told_with_its_reason() -> None:
    lines = lines_of(Retrying(id="7", seq=3, attempt=1, code="node_crashed", message="[bold] died"))
    assert lines == ["image: attempt ended (node_crashed: [bold] died); it runs again"]


def terminal_output(*steps: Event | Preview) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=60, color_system="truecolor")
    with LiveDisplay(console) as display:
        for step in steps:
            if isinstance(step, Preview):
                display.preview("image", step, None)
            else:
                display.event("image", step)
            display.refresh()
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_terminal_shows_the_bar_the_text_and_the_preview() -> None:
    output = terminal_output(STARTED, progress(3), Token(id="7", seq=9, index=0, text="a [red] cat"), PREVIEW)
    assert "3/12" in output
    assert "1.5 s left" in output
    assert "a [red] cat" in output
    assert "▀" in output


def test_text_of_an_earlier_attempt_is_void() -> None:
    token = Token(id="7", seq=9, index=0, text="a dog")
    again = Started(id="7", seq=11, attempt=2, node="amused-1", total=12)
    output = terminal_output(STARTED, token, again, Token(id="7", seq=12, index=0, text="a cat"))
    assert output.rfind("a cat") > output.rfind("a dog")


def test_a_failed_stage_says_why() -> None:
    failed = Failed(id="7", seq=9, code="model_failed", message="it broke")
    assert "model_failed: it broke" in terminal_output(STARTED, failed)


def test_half_blocks_keep_the_shape_and_the_colour_of_an_image() -> None:
    text = half_blocks(png(80, 40), 20, 30)
    assert text.plain.splitlines() == ["▀" * 20] * 5
    assert str(text.spans[0].style) == "#ff0000 on #ff0000"
    assert half_blocks(png(80, 40), 20, 2).plain.splitlines() == ["▀" * 8] * 2


def test_a_preview_that_is_no_image_shows_nothing() -> None:
    assert half_blocks(b"not an image", 20, 30).plain == ""
