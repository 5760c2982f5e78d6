"""A server that may open few files: guests that hold all they can take nothing from the server itself."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from tests.end_to_end.command import environment
from tests.end_to_end.server import descendants
from tests.end_to_end.test_serve import PATIENCE, eventually

SECRET = "koma_of_a_caller"
KEYS = f"caller sha256:{hashlib.sha256(SECRET.encode()).hexdigest()} roles=metrics"
FILES = 256
JOB = {"task": "toy.run", "params": {"steps": 2}}


@contextmanager
def confined(folder: Path, **variables: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Run `koma serve` where no process may open more than ``FILES`` files; yield its port and process."""
    arguments = ["serve", "--port", "0", "--data", str(folder / "data"), "--models", "toy"]
    shell = f'ulimit -n {FILES}; exec "$@"'
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            ["bash", "-c", shell, "bash", sys.executable, "-m", "koma.cli.main", *arguments],
            env=environment(KOMA_PORT_FILE=str(folder / "port"), **variables),
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            eventually((folder / "port").exists)
            port = int((folder / "port").read_text())
            eventually(lambda: ready(port))
            yield port, process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE)
            finally:
                process.kill()


def ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def crowd(port: int, stack: ExitStack) -> list[socket.socket]:
    """Open more connections than the server may have files, and leave them idle."""
    return [
        stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
        for _ in range(FILES + 50)
    ]


def kill_model_node(process: subprocess.Popen[str]) -> None:
    (node,) = descendants(process.pid, b"-m\0koma.port")
    os.kill(node, signal.SIGKILL)
    eventually(lambda: descendants(process.pid, b"-m\0koma.port") - {node} != set())


def test_idle_guests_keep_out_neither_who_has_a_key_nor_a_model_node_that_starts_again(
    tmp_path: Path,
) -> None:
    with confined(tmp_path, KOMA_KEYS=KEYS) as (port, process), ExitStack() as stack:
        caller = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"x-api-key": SECRET}, timeout=PATIENCE
        )
        with caller:
            assert caller.get("/v1/jobs").status_code == 200
            crowd(port, stack)
            kill_model_node(process)
            answer = caller.post("/v1/jobs?wait=true", json=JOB)
            assert answer.json()["state"] == "completed"
            metrics = caller.get("/metrics").text
        # Who comes now, too, as the oldest guest makes room.
        answer = httpx.post(
            f"http://127.0.0.1:{port}/v1/jobs?wait=true",
            json=JOB, headers={"x-api-key": SECRET}, timeout=PATIENCE,
        )  # fmt: skip
        assert answer.json()["state"] == "completed"
    assert f"koma_file_descriptors_limit {FILES}" in metrics
    assert 'koma_connections{who="known"} 1' in metrics
    assert f"{FILES} file descriptors: at most" in (tmp_path / "log").read_text()


def test_where_no_key_is_asked_for_who_comes_too_late_is_told_and_the_server_goes_on(tmp_path: Path) -> None:
    with confined(tmp_path) as (port, process), ExitStack() as stack:
        caller = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE)
        with caller:
            assert caller.get("/v1/jobs").status_code == 200
            late = crowd(port, stack)[-1]
            assert late.recv(4096).startswith(b"HTTP/1.1 503 ")
            kill_model_node(process)
            answer = caller.post("/v1/jobs?wait=true", json=JOB)
            assert answer.json()["state"] == "completed"
