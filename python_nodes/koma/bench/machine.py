"""What a figure was measured on: processor, versions, and the memory of processes."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Machine:
    """The machine and the versions that a report names."""

    processor: str
    cores: int
    memory_gib: float
    versions: dict[str, str]

    def line(self) -> str:
        """One line for the head of a report."""
        parts = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return f"{self.processor}, {self.cores} cores, {self.memory_gib:.0f} GiB; {parts}"


def describe() -> Machine:
    """Describe this machine (Linux)."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    versions = {"Python": platform.python_version(), "torch": version("torch"), "OTP": _otp()}
    return Machine(_processor(), os.cpu_count() or 1, memory / 1024**3, versions)


def process_tree(root: int) -> dict[int, str]:
    """Return pid -> name (``comm`` of Linux) of ``root`` and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        parent = _parent(entry) if entry.name.isdigit() else None
        if parent is not None:
            children.setdefault(parent, []).append(int(entry.name))
    tree, waiting = {}, [root]
    while waiting:
        pid = waiting.pop()
        tree[pid] = _name(pid)
        waiting += children.get(pid, [])
    return tree


def proportional_bytes(pid: int) -> int:
    """Memory of a process in bytes; pages shared by several processes count in part (Linux ``Pss``)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/{pid}/smaps_rollup has no Pss")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _otp() -> str:
    script = "io:put_chars(erlang:system_info(otp_release)), halt()."
    return subprocess.run(
        ["erl", "-noshell", "-eval", script], capture_output=True, text=True, check=True
    ).stdout


def _parent(entry: Path) -> int | None:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
