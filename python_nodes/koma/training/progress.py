"""The progress line of a training run: a live bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


class Progress:
    """Shows step, loss, learning rate and the time left."""

    def __init__(self, name: str, steps: int | None) -> None:
        self.name, self.steps = name, steps
        console = Console()
        columns = (TextColumn(name), BarColumn(), TextColumn("{task.fields[text]}"))
        self.bar = Bar(*columns, console=console) if console.is_terminal else None

    def __enter__(self) -> Self:
        """Open the bar on a terminal."""
        if self.bar:
            self.bar.start()
            self.task = self.bar.add_task(self.name, total=1.0, text="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the bar."""
        if self.bar:
            self.bar.stop()

    def line(self, step: int, progress: float, elapsed: float, figures: dict[str, float]) -> None:
        """Show one state: `progress` 0 to 1, `elapsed` in seconds, the figures by name."""
        eta = clock(elapsed / progress - elapsed) if progress > 0 else "?"
        shown = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
        text = f"step {step}  {shown}  {clock(elapsed)} done, {eta} left"
        if self.bar:
            self.bar.update(self.task, completed=progress, text=text)
        else:
            print(f"{self.name}: {progress:4.0%}  {text}", file=sys.stdout, flush=True)
