"""The figures of all servers in all rounds."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from koma.bench.spread import median, spread

Key = tuple[str, int]


@dataclass
class Figures:
    """(server, in flight) -> rates and latencies, one of each round."""

    versions: dict[str, str] = field(default_factory=dict)
    _rates: dict[Key, list[float]] = field(default_factory=lambda: defaultdict(list))
    _p50: dict[Key, list[float]] = field(default_factory=lambda: defaultdict(list))
    _p99: dict[Key, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, name: str, in_flight: int, per_second: float, p50_ms: float, p99_ms: float) -> None:
        """Note what a round gave."""
        for kept, value in ((self._rates, per_second), (self._p50, p50_ms), (self._p99, p99_ms)):
            kept[name, in_flight].append(value)

    def names(self) -> list[str]:
        """Return the servers that were measured, Koma first."""
        found = dict.fromkeys(name for name, _ in self._rates)
        return sorted(found, key=lambda name: (not name.startswith("Koma"), name))

    def has(self, name: str) -> bool:
        """Whether a server was measured at all."""
        return name in self.names()

    def title(self, name: str) -> str:
        """Return the name with its version."""
        return f"{name} {self.versions.get(name, '')}".strip()

    def rate(self, name: str, in_flight: int) -> float:
        """Return the median of jobs per second."""
        return median(self._rates[name, in_flight])

    def p99(self, name: str, in_flight: int) -> float:
        """Return the median of the 99th percentiles in milliseconds."""
        return median(self._p99[name, in_flight])

    def spreads(self, name: str, in_flight: int) -> list[str]:
        """Return the cells of a row: rate, p50, p99."""
        key = (name, in_flight)
        return [spread(self._rates[key]), spread(self._p50[key], 1), spread(self._p99[key], 1)]
