"""Memory of the idle system: the gateway and its model nodes."""

from __future__ import annotations

from dataclasses import dataclass

from koma.bench.machine import MEBIBYTE, process_tree, proportional_bytes


@dataclass(frozen=True)
class Resident:
    """Memory of one process."""

    name: str
    mebibytes: float


def measure(server: int) -> list[Resident]:
    """Measure the gateway (``beam.smp``) and the model nodes (``koma:<family>``) below process ``server``."""
    named = {
        pid: name
        for pid, name in process_tree(server).items()
        if name == "beam.smp" or name.startswith("koma:")
    }
    found = [Resident(name, proportional_bytes(pid) / MEBIBYTE) for pid, name in named.items()]
    return sorted(found, key=lambda item: item.name)
