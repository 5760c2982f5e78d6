"""The `koma` command as a process, against a running server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from koma.cli.server_process import ServerProcess

ROOT = Path(__file__).parents[2]
PATIENCE = 120  # seconds


def environment(**variables: str) -> dict[str, str]:
    """Return the environment of a command; the package is that of this checkout."""
    return {**os.environ, "PYTHONPATH": str(ROOT / "python_nodes"), "NO_COLOR": "1", **variables}


def start(server: ServerProcess, *arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """Start `koma ARGUMENTS` in folder ``cwd`` against ``server``."""
    command = [sys.executable, "-m", "koma.cli.main", *arguments]
    return subprocess.Popen(
        command, cwd=cwd, env=environment(KOMA_SERVER=server.url), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def koma(server: ServerProcess, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `koma ARGUMENTS` to its end."""
    process = start(server, *arguments, cwd=cwd)
    try:
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def json_lines(text: str) -> list[dict[str, Any]]:
    """Return the objects of JSON lines."""
    return [json.loads(line) for line in text.splitlines()]
