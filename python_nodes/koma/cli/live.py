"""Running jobs on a terminal: a bar for each stage, the text as it is generated, the latest preview."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.text import Text

from koma.cli.display import sentence
from koma.client import events
from koma.client.events import Event, Preview, terminal

PREVIEW_COLUMNS = 40
OTHER_LINES = 14  # of the terminal, kept free for text and bars
TEXT_LINES = 8


class LiveDisplay:
    """See :class:`koma.cli.display.Display`."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description:<8}", markup=False),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._texts: dict[str, str] = {}
        self._preview: tuple[str, Text] | None = None
        self._room = console.height - OTHER_LINES
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=8)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._preview = None
        self._texts.clear()
        self._live.stop()

    def event(self, stage: str, event: Event) -> None:
        """Show an event of a stage's job."""
        match event:
            case events.Started(total=total):
                self._texts.pop(stage, None)
                self._bars.update(self._task(stage), total=total or None, completed=0, state=sentence(event))
            case events.Progress(step=step, total=total):
                state = sentence(event).partition(", ")[2]
                self._bars.update(self._task(stage), total=total, completed=step, state=state)
            case events.PipelineCompleted():
                return  # each stage has its bar
            case events.Token(text=text):
                self._texts[stage] = self._texts.get(stage, "") + text
            case _:
                self._bars.update(self._task(stage), state=sentence(event))
        if terminal(event):
            self._end(stage, event)

    def preview(self, stage: str, preview: Preview, path: Path | None) -> None:
        """Show the latest preview in half blocks."""
        if self._room > 0:
            self._preview = (stage, half_blocks(preview.data, PREVIEW_COLUMNS, self._room))

    def transfer(self, what: str, done: int, total: int | None) -> None:
        """Show bytes that were sent or received."""
        state = f"{total or done:,} bytes" if done == total else ""
        self._bars.update(self._task(what), total=total, completed=done, state=state)

    def note(self, text: str) -> None:
        """Print a remark above the bars."""
        self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def refresh(self) -> None:
        """Draw now; otherwise it is drawn eight times a second."""
        self._live.refresh()

    def _end(self, stage: str, event: Event) -> None:
        task = self._bars.tasks[self._bars.task_ids.index(self._task(stage))]
        if isinstance(event, events.Completed):
            self._bars.update(task.id, total=task.total or 1, completed=task.total or 1)
        else:
            self._bars.stop_task(task.id)
        if self._preview is not None and self._preview[0] == stage:
            self._preview = None

    def _task(self, stage: str) -> TaskID:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=None, state="")
        return self._tasks[stage]

    def _render(self) -> RenderableType:
        parts: list[RenderableType] = [
            Panel(Text("\n".join(text.splitlines()[-TEXT_LINES:])), title=stage, title_align="left")
            for stage, text in self._texts.items()
            if text
        ]
        if self._preview is not None:
            parts.append(self._preview[1])
        return Group(*parts, self._bars)


def half_blocks(image: bytes, columns: int, lines: int) -> Text:
    """Return an image in Unicode half blocks, two pixels a character, at most so wide and so high.

    Empty where the image cannot be decoded.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        picture = Image.open(io.BytesIO(image)).convert("RGB")
    except (UnidentifiedImageError, OSError):
        return Text()
    columns = min(columns, max(1, round(lines * 2 * picture.width / picture.height)))
    rows = max(1, round(columns * picture.height / picture.width / 2))
    pixels = picture.resize((columns, rows * 2)).tobytes()
    text = Text()
    for row in range(0, rows * 2, 2):
        for column in range(columns):
            upper, lower = (_colour(pixels, (row + half) * columns + column) for half in (0, 1))
            text.append("▀", style=f"{upper} on {lower}")
        text.append("\n")
    text.rstrip()
    return text


def _colour(pixels: bytes, index: int) -> str:
    return "#" + pixels[index * 3 : index * 3 + 3].hex()
