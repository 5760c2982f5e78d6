"""What a section of a run found: tables, bars and plots, which travel as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Cell = str | float | int


@dataclass(frozen=True)
class Table:
    """Rows under a head."""

    title: str
    head: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Bar:
    """What was demanded, what was measured, and whether that is enough."""

    demand: str
    measured: str
    passed: bool

    def verdict(self) -> str:
        """Return the word of the page."""
        return "pass" if self.passed else "falls short"


@dataclass(frozen=True)
class Plot:
    """Lines (``kind`` "line"), bars ("bar") or steps of a histogram ("hist"): name -> points."""

    name: str
    """Of the file."""
    title: str
    x: str
    y: str
    series: dict[str, list[tuple[float | str, float]]]
    kind: str = "line"
    log: str = ""
    """Axes on a logarithmic scale: "", "x", "y" or "xy"."""


@dataclass
class Finding:
    """All that a section found."""

    section: str
    title: str
    text: str
    command: str = ""
    date: str = ""
    machine: str = ""
    seconds: float = 0.0
    tables: list[Table] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Store it as ``<section>.json``."""
        path = folder / f"{self.section}.json"
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def read(path: Path) -> Finding:
    """Read a stored finding."""
    stored: dict[str, Any] = json.loads(path.read_text())
    tables = [Table(**item) for item in stored.pop("tables")]
    bars = [Bar(**item) for item in stored.pop("bars")]
    plots = [Plot(**item) for item in stored.pop("plots")]
    return Finding(**stored, tables=tables, bars=bars, plots=plots)
