"""How much a run measures, and the seed of everything random in it."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from koma.cli.server_process import home

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """One run of ``make bench``."""

    quick: bool
    seed: int
    out: Path
    """Folder of the findings and of the logs of servers."""
    began: float = field(default_factory=time.monotonic)

    def pick(self, full: T, quick: T) -> T:
        """Choose an amount."""
        return quick if self.quick else full

    @property
    def page(self) -> Path:
        """The page that tells the findings."""
        return self.out / "benchmarks.md" if self.quick else home() / "docs" / "benchmarks.md"

    @property
    def images(self) -> Path:
        """The folder of the plots, beside the page."""
        return self.page.parent / "images" / "bench"

    @property
    def rounds(self) -> int:
        """How often each figure is measured; the rounds of all that is compared alternate."""
        return self.pick(3, 1)

    def random(self, purpose: str) -> random.Random:
        """Return a generator of its own for each purpose, so that sections may be run alone."""
        return random.Random(f"{self.seed}/{purpose}")

    def say(self, text: str) -> None:
        """Print progress at once, also into a pipe, with the seconds since the run began."""
        print(f"{time.monotonic() - self.began:6.0f} s  {text}", flush=True)

    def folder(self, name: str) -> Path:
        """Make and return a folder below ``out``."""
        folder = self.out / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder
