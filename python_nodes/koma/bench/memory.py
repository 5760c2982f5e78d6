"""Memory of a server: the gateway and its model nodes."""

from __future__ import annotations

from dataclasses import dataclass

from koma.bench.machine import MEBIBYTE, process_tree, proportional_bytes


@dataclass(frozen=True)
class Resident:
    """Memory of one process."""

    name: str
    mebibytes: float


def processes(server: int) -> dict[int, str]:
    """Return pid -> name of the gateway (``beam.smp``) and the model nodes (``koma:<family>``)."""
    tree = process_tree(server)
    return {pid: name for pid, name in tree.items() if name == "beam.smp" or name.startswith("koma:")}


def measure(server: int) -> list[Resident]:
    """Measure the processes of the server whose process id is ``server``."""
    found = [Resident(name, proportional_bytes(pid) / MEBIBYTE) for pid, name in processes(server).items()]
    return sorted(found, key=lambda item: item.name)
