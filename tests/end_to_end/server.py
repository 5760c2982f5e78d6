"""A real Koma server for tests: the gateway started as an operator starts it, with real model nodes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from koma.cli.server_process import ServerProcess

TOY = {"KOMA_MODELS": "toy:2"}


@contextmanager
def running_server(folder: Path, environment: dict[str, str]) -> Iterator[ServerProcess]:
    """Start a server on a free port with its data below ``folder``; yield it when its model nodes are ready.

    Fails with the end of the server's log where it cannot start.
    """
    with ServerProcess(folder, {"OMP_NUM_THREADS": "1", **environment}, folder / "server.log") as server:
        server.wait_ready()
        yield server


def model_node_pids(server: ServerProcess) -> set[int]:
    """Return the process ids of the server's model nodes: its descendants that run ``koma.port``."""
    return descendants(server.pid, b"koma.port")


def descendants(ancestor: int, part: bytes) -> set[int]:
    """Return the processes below ``ancestor`` whose command line has ``part``; zeros divide its words."""
    parents = {pid: parent for pid in _pids() if (parent := _parent(pid)) is not None}
    return {pid for pid in parents if _descends(pid, ancestor, parents) and part in _command(pid)}


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _parent(pid: int) -> int | None:
    try:
        # The name of the process stands in parentheses and may hold anything.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _descends(pid: int, ancestor: int, parents: dict[int, int]) -> bool:
    while pid in parents:
        pid = parents[pid]
        if pid == ancestor:
            return True
    return False
