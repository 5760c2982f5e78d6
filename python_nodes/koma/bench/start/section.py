"""The section ``start``: cold start and memory."""

from __future__ import annotations

from koma.bench.finding import Finding
from koma.bench.plan import Plan
from koma.bench.start import cold, full_size, in_flight

TEXT = """A start is cold for the processes, not for the disk: files have been read before. Memory is the
proportional set size: pages that processes share count in part. Model nodes run the emoji checkpoints on
the CPU in float32."""


def measure(plan: Plan) -> Finding:
    """Measure one after another."""
    finding = Finding("start", "Start and memory", TEXT)
    finding.tables = [*cold.measure(plan), in_flight.measure(plan), full_size.measure()]
    return finding
