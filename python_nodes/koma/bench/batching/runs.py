"""What the runs of one system at one load gave, all rounds together."""

from __future__ import annotations

from dataclasses import dataclass, field

from koma.bench.spread import median, percentile, spread

SYSTEMS = ("Koma", "whole-request batches", "one at a time")


@dataclass
class Runs:
    """Latencies in seconds of all rounds, and the throughput of each."""

    latencies: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    """Seconds to the first preview or token; the stock pipelines show nothing before the end."""
    per_second: list[float] = field(default_factory=list)

    def add(self, arrivals: list[float], latencies: list[float], first: list[float]) -> None:
        """Note one round."""
        self.latencies += latencies
        self.first += first
        ends = [at + latency for at, latency in zip(arrivals, latencies, strict=True)]
        self.per_second.append(len(ends) / (max(ends) - min(arrivals)))

    @property
    def p99(self) -> float:
        """The 99th percentile of the latencies, in seconds."""
        return percentile(self.latencies, 0.99)

    @property
    def throughput(self) -> float:
        """The median of the rounds, requests per second."""
        return median(self.per_second)

    def cells(self) -> list[str]:
        """Throughput, p50, p99 and first sign, as the table has them."""
        return [
            spread(self.per_second, 2),
            f"{1000 * percentile(self.latencies, 0.5):.0f}",
            f"{1000 * self.p99:.0f}",
            f"{1000 * median(self.first):.0f}",
        ]
