"""A Koma server as a child process: found, started, awaited and stopped."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import httpx

PR_SET_PDEATHSIG = 1  # linux/prctl.h
POLL = 0.1  # seconds between two looks at the port file or at /health/ready
LOG_LINES = 20  # of the log in an error message
# The emulator looks at each possible file descriptor when it starts: a billion of them would take minutes.
MOST_FILES = 262_144
STOP_GRACE = 30.0  # seconds that the server has to drain and stop before it is killed


class ServerError(Exception):
    """The server cannot be started, or ended before it was ready."""


def home() -> Path:
    """Return the folder to start the server in: ``KOMA_HOME``, or the checkout that this package lies in."""
    named = os.environ.get("KOMA_HOME")
    folder = Path(named) if named else Path(__file__).resolve().parents[3]
    if not (folder / "mix.exs").is_file() and not _release(folder).is_file():
        raise ServerError(f"{folder} has neither mix.exs nor a release's bin/koma; set KOMA_HOME")
    return folder


def command(folder: Path) -> list[str]:
    """Return the command that runs the server in the foreground: a release's, else Mix."""
    if _release(folder).is_file():
        return [str(_release(folder)), "start"]
    if shutil.which("mix") is None:
        raise ServerError("mix is not on the PATH; `make setup` installs Elixir")
    return ["mix", "run", "--no-halt"]


def evaluation(folder: Path, code: str) -> list[str]:
    """Return the command that runs a line of Elixir without a server."""
    if _release(folder).is_file():
        return [str(_release(folder)), "eval", code]
    if shutil.which("mix") is None:
        raise ServerError("mix is not on the PATH; `make setup` installs Elixir")
    return ["mix", "run", "--no-start", "-e", code]


def _release(folder: Path) -> Path:
    """Return where the command of a release lies, if ``folder`` is one."""
    return folder / "bin" / "koma"


def _flags(folder: Path) -> dict[str, str]:
    """Return the variable with the BEAM's flags, which a release has in itself."""
    return {} if _release(folder).is_file() else {"ELIXIR_ERL_OPTIONS": "-args_file rel/vm.args.eex"}


class ServerProcess:
    """A server that listens on a free port: a context manager, or ``start`` and ``stop``.

    ``environment`` holds ``KOMA_*`` variables (config/runtime.exs); ``log`` takes what the server prints;
    it ends with this process unless it shall ``outlive`` it.
    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str], log: Path, *, outlive: bool = False
    ) -> None:
        self.log = log
        self._outlive = outlive
        self._port_file = folder / "port"
        self._environment = {
            "KOMA_DATA": str(folder / "data"),
            **environment,
            "KOMA_PORT": "0",
            "KOMA_PORT_FILE": str(self._port_file),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._running().pid

    def start(self, seconds: float = 120.0) -> None:
        """Start the server and wait until it listens; raises ``ServerError`` with the end of its log."""
        folder = home()
        self._port_file.parent.mkdir(parents=True, exist_ok=True)
        self._port_file.unlink(missing_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self._process = spawn(folder, self._environment, log, outlive=self._outlive)
        self._wait(lambda: bool(self._read_port()), seconds, "listen")
        self.url = f"http://127.0.0.1:{self._read_port()}"

    def wait_ready(self, seconds: float = 120.0, tell: Callable[[Any], None] | None = None) -> None:
        """Wait until every model node is ready; ``tell`` gets each new answer of ``/health/ready``."""
        last: list[Any] = [None]

        def ready() -> bool:
            answer = self._health()
            if answer is None:
                return False
            status, body = answer
            if tell is not None and body != last[0]:
                last[0] = body
                tell(body)
            return status == 200

        self._wait(ready, seconds, "become ready")

    def stop(self) -> int:
        """Ask the server to drain and stop, kill it when it does not; return its exit status."""
        process = self._running()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_GRACE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        return process.wait()

    def stop_if_started(self) -> None:
        """Stop the server where there is one."""
        if self._process is not None:
            self.stop()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop_if_started()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _log_end(self) -> str:
        text = self.log.read_text(errors="replace") if self.log.is_file() else ""
        return f"the end of {self.log}:\n" + "\n".join(text.splitlines()[-LOG_LINES:])

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ServerError("the server was not started")
        return self._process

    def _wait(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        give_up = time.monotonic() + seconds
        while not done():
            status = self._running().poll()
            if status is not None:
                raise ServerError(f"the server ended with status {status}; {self._log_end()}")
            if time.monotonic() > give_up:
                raise ServerError(f"the server did not {what} in {seconds:g} s; {self._log_end()}")
            time.sleep(POLL)

    def _read_port(self) -> str:
        try:
            return self._port_file.read_text().strip()
        except FileNotFoundError:
            return ""

    def _health(self) -> tuple[int, Any] | None:
        try:
            response = httpx.get(f"{self.url}/health/ready", timeout=5)
            return response.status_code, response.json()
        except (httpx.TransportError, ValueError):
            return None


def spawn(
    folder: Path, environment: Mapping[str, str], output: BinaryIO | None, *, outlive: bool = False
) -> subprocess.Popen[bytes]:
    """Start the server in a process group of its own, so that a terminal's Ctrl-C does not reach it.

    It ends with this process, unless it shall ``outlive`` it.
    """
    return subprocess.Popen(
        command(folder),
        cwd=folder,
        env={**_flags(folder), **os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output is not None else None,
        start_new_session=True,
        preexec_fn=partial(_prepare, outlive),
    )


def _prepare(outlive: bool) -> None:
    """Make the new process ready for the server: as many open files as it may have, and its end with ours."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if not outlive:
        _end_with_parent()


def _end_with_parent() -> None:
    """Let the kernel send SIGTERM to this process when its parent dies, even by SIGKILL (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
