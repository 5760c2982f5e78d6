"""An alternative as a child process."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import httpx

from koma.bench import environment
from koma.bench.plan import Plan
from koma.cli.server_process import home

SCRIPTS = {"LitServe": "litserve", "Ray Serve": "ray", "FastAPI": "fastapi"}
"""Name -> package, and script ``<package>_server.py``."""
START_S = 90.0
STOP_S = 20.0
_BODY = {"task": "toy.run", "params": {"steps": 1}}


def version(name: str) -> str:
    """Return the version of an alternative in ``.venv-bench``."""
    code = f"import importlib.metadata as m; print(m.version({SCRIPTS[name]!r}))"
    done = subprocess.run(
        [str(environment.python()), "-c", code], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise PackageNotFoundError(SCRIPTS[name])
    return done.stdout.strip()


@contextmanager
def rival(plan: Plan, name: str) -> Iterator[str]:
    """Start an alternative and yield the address of its no-op once it answers."""
    port = _free_port()
    script = Path(__file__).with_name(f"{SCRIPTS[name]}_server.py")
    log = plan.folder("logs") / f"{SCRIPTS[name]}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(environment.python()), str(script), str(port)],
            cwd=plan.folder("rivals"),
            env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(home() / "python_nodes")},
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}/predict"
        _wait_until_it_answers(url, process, log)
        yield url
    finally:
        _stop(process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up = time.monotonic() + START_S
    while time.monotonic() < give_up and process.poll() is None:
        try:
            if httpx.post(url, json=_BODY, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"{url} does not answer; the end of {log}:\n{log.read_text()[-2000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask, then kill the whole group; what left the group (Ray's daemons) ends with its session's leader."""
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
