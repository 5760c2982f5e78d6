"""What the user sees of running jobs: live bars on a terminal, lines in a log, JSON for scripts.

Everything here goes to stderr, results go to stdout; with ``--json`` both are JSON lines on stdout.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, Self

from rich.console import Console

from koma.client import Event, Preview, Progress, Queued, Retrying, Started, Token
from koma.client.events import Cancelled, Completed, Expired, Failed, PipelineCompleted, name_of

LINE_EVERY = 1.0  # seconds between two lines of progress in a log


class Display(Protocol):
    """A view of jobs; ``stage`` names the job (the stage of a pipeline, or the command)."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def event(self, stage: str, event: Event) -> None:
        """Show an event of a stage's job."""

    def preview(self, stage: str, preview: Preview, path: Path | None) -> None:
        """Show a preview, and where it was written."""

    def transfer(self, what: str, done: int, total: int | None) -> None:
        """Show bytes that were sent or received."""

    def note(self, text: str) -> None:
        """Show a remark."""


def emit(record: Mapping[str, Any]) -> None:
    """Write one JSON line to stdout, at once."""
    sys.stdout.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


class JsonDisplay:
    """Every event as a line ``{"event": name, "stage": …, …}``, in the shapes of docs/api.md."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def event(self, stage: str, event: Event) -> None:
        """Print an event."""
        emit({"event": name_of(event), "stage": stage, **event.model_dump(by_alias=True, exclude_none=True)})

    def preview(self, stage: str, preview: Preview, path: Path | None) -> None:
        """Print a preview's header and its path; the image itself is in the file."""
        header = preview.model_dump(exclude={"data", "stage"})
        emit({"event": "preview", "stage": stage, **header, "path": str(path) if path else None})

    def transfer(self, what: str, done: int, total: int | None) -> None:
        """Print the end of a transfer."""
        if done == total:
            emit({"event": "transferred", "what": what, "bytes": done})

    def note(self, text: str) -> None:
        """Print a remark."""
        emit({"event": "note", "message": text})


class LineDisplay:
    """A line for each change, at most one a second for progress: fit for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def event(self, stage: str, event: Event) -> None:
        """Print a line, unless it is one step of many."""
        if isinstance(event, Token):
            return
        if isinstance(event, Progress):
            if event.step < event.total and time.monotonic() - self._last < LINE_EVERY:
                return
            self._last = time.monotonic()
        self.note(f"{stage}: {sentence(event)}")

    def preview(self, stage: str, preview: Preview, path: Path | None) -> None:
        """Print where a preview was written."""
        if path is not None:
            self.note(f"{stage}: preview of step {preview.step} in {path}")

    def transfer(self, what: str, done: int, total: int | None) -> None:
        """Print the end of a transfer."""
        if done == total:
            self.note(f"{what}: {done} bytes")

    def note(self, text: str) -> None:
        """Print a remark."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def sentence(event: Event) -> str:
    """Return an event in words."""
    match event:
        case Queued(position=position):
            return "queued" if position is None else f"queued at position {position}"
        case Started(attempt=attempt, node=node):
            return f"started on {node}" + (f", attempt {attempt}" if attempt > 1 else "")
        case Progress(phase=phase, step=step, total=total, eta_ms=eta):
            return f"{phase} {step}/{total}" + (f", {eta / 1000:.1f} s left" if eta else "")
        case Retrying(code=code, message=message):
            return f"attempt ended ({code}: {message}); it runs again"
        case Completed() | PipelineCompleted():
            return "done"
        case Failed() | Cancelled() | Expired():
            return f"{event.code}: {event.message}"
        case _:
            return name_of(event)


def make_display(as_json: bool) -> Display:
    """Return the view that fits where the output goes."""
    if as_json:
        return JsonDisplay()
    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        return LineDisplay(console)
    from koma.cli.live import LiveDisplay

    return LiveDisplay(console)
