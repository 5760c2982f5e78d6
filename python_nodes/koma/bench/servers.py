"""Koma for a measurement: a server in a folder of its own, and what it tells of itself."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from koma.bench.plan import Plan
from koma.bench.setting import Setting
from koma.cli.server_process import ServerProcess

READY_S = 900.0
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_ENVIRONMENT = {
    "KOMA_LOG_LEVEL": "warning",
    "KOMA_QUEUE_LIMIT": "200000",
    "KOMA_DRAIN_MS": "0",
    "KOMA_QUEUE_BUDGET_MS": "1000000000",
}


@contextmanager
def koma(plan: Plan, models: str, name: str, **environment: str) -> Iterator[ServerProcess]:
    """Start Koma with ``models`` (as ``KOMA_MODELS``) and wait until it is ready; its log stays."""
    with (
        TemporaryDirectory(prefix="koma-bench-") as folder,
        koma_cold(plan, models, folder, name, **environment) as server,
    ):
        server.wait_ready(READY_S)
        yield server


def koma_cold(plan: Plan, models: str, folder: str, name: str, **environment: str) -> ServerProcess:
    """Return a server that is not started yet, with its data in ``folder``."""
    settings = {**_ENVIRONMENT, "KOMA_MODELS": models, **environment}
    return ServerProcess(Path(folder), settings, plan.folder("logs") / f"{name}.log")


def model_nodes(plan: Plan, setting: Setting) -> dict[str, str]:
    """Return what makes a server have the model nodes of ``setting``."""
    path = plan.folder("logs") / f"models-{setting.device}-{setting.count}.exs"
    path.write_text(setting.models_file())
    return {"KOMA_MODELS_FILE": str(path)}


def metrics(url: str, name: str) -> dict[str, float]:
    """Return the samples of one metric of ``GET /metrics``: labels -> value."""
    found = {}
    for line in httpx.get(f"{url}/metrics", timeout=30).text.splitlines():
        match = _SAMPLE.match(line)
        if match and match[1] == name:
            found[match[2] or ""] = float(match[3])
    return found


def models(url: str) -> list[dict[str, Any]]:
    """Return the answer of ``GET /v1/models``."""
    found: list[dict[str, Any]] = httpx.get(f"{url}/v1/models", timeout=30).raise_for_status().json()["data"]
    return found


def total(url: str, name: str) -> float:
    """Return the sum over all labels of a metric."""
    return sum(metrics(url, name).values())


def cpu_seconds(pids: Mapping[int, str]) -> dict[str, float]:
    """Return name -> processor time in seconds that processes of that name have used (Linux)."""
    ticks = os.sysconf("SC_CLK_TCK")
    used: dict[str, float] = {}
    for pid, name in pids.items():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used[name] = used.get(name, 0.0) + (int(fields[11]) + int(fields[12])) / ticks
    return used


def wait_until_idle(url: str, seconds: float = 60.0) -> None:
    """Wait until no job lives."""
    give_up = time.monotonic() + seconds
    while total(url, "koma_jobs") > 0:
        if time.monotonic() > give_up:
            raise TimeoutError("jobs are still alive")
        time.sleep(0.05)
