"""A real model node, started and spoken to as the gateway does it."""

from __future__ import annotations

import fcntl
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from koma.port.codec import decode_node, encode
from koma.port.frames import FrameBuffer, frame
from koma.port.limits import PROTOCOL_VERSION
from koma.port.messages import (
    Failed,
    GatewayMessage,
    Hello,
    InputRef,
    Load,
    Log,
    NodeMessage,
    Ping,
    Ready,
    Stats,
    Submit,
)
from koma.port.pipes import READ_FD, WRITE_FD

Wanted = TypeVar("Wanted")

PACKAGES = str(Path(__file__).parents[2])


class NodeProcess:
    """``python -m koma.port`` with pipes on descriptors 3 and 4; a context manager that kills it at the end.

    ``heard`` keeps every message that has been received. Where the process ends or stays silent for
    ``patience_s``, waiting raises AssertionError with what was heard.
    """

    def __init__(self, patience_s: float = 30.0, stdout: Any = None, stderr: Any = None) -> None:
        to_node, self._write_fd = _pipe()
        self._read_fd, from_node = _pipe()
        self.heard: list[NodeMessage] = []
        self._patience_s = patience_s
        self._frames = FrameBuffer()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "koma.port"],
            env=os.environ | {"PYTHONPATH": PACKAGES, "OMP_NUM_THREADS": "1"},
            pass_fds=(READ_FD, WRITE_FD),
            preexec_fn=lambda: _place(to_node, from_node),
            stdout=stdout,
            stderr=stderr,
        )
        os.close(to_node)
        os.close(from_node)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        self.close()

    def close(self) -> None:
        """Close our ends of the pipes, as a gateway that is gone."""
        for fd in (self._write_fd, self._read_fd):
            if fd >= 0:
                os.close(fd)
        self._write_fd = self._read_fd = -1

    def send(self, message: GatewayMessage) -> None:
        """Send one message."""
        self.send_bytes(frame(encode(message)))

    def send_bytes(self, data: bytes) -> None:
        """Send raw bytes."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._write_fd, view) :]

    def receive(self) -> NodeMessage | None:
        """Wait for the next message; None when the node closed its end."""
        deadline = time.monotonic() + self._patience_s
        while (body := self._frames.next_frame()) is None:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._read_fd], [], [], left)[0]:
                raise AssertionError(
                    f"the node said nothing for {self._patience_s} s; heard: {self.heard[-5:]}"
                )
            data = os.read(self._read_fd, 1 << 16)
            if not data:
                return None
            self._frames.feed(data)
        message = decode_node(body)
        self.heard.append(message)
        return message

    def wait_for(self, kind: type[Wanted], where: Callable[[Wanted], bool] = lambda _message: True) -> Wanted:
        """Wait for the next message of a type that meets a condition."""
        while (message := self.receive()) is not None:
            if isinstance(message, kind) and where(message):
                return message
        raise AssertionError(f"the node ended before {kind.__name__}; heard: {self.heard[-5:]}")

    def ping_until_silent(self, patience_s: float) -> None:
        """Ping until nothing is heard for so long: then something holds the interpreter.

        Raises:
            AssertionError: it still answers after a minute.
        """
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up:
            self.send(Ping(1))
            if not select.select([self._read_fd], [], [], patience_s)[0]:
                return
            self.receive()
            time.sleep(0.005)
        raise AssertionError("the node still answers")

    def wait_for_end(self) -> int:
        """Wait until the node has closed its end and return its exit code (negative: the signal)."""
        while self.receive() is not None:
            pass
        return self.process.wait(self._patience_s)

    def load(
        self, family: str = "toy", slots: int = 4, checkpoint: str = "untrained", **options: Any
    ) -> Ready:
        """Greet the node, load a checkpoint, and return its ``ready``; AssertionError where it cannot."""
        self.send(Hello(PROTOCOL_VERSION, "test"))
        self.wait_for(Ready)
        self.send(Load("load-1", family, checkpoint, "auto", "auto", slots, options))
        ready = self.wait_for(Ready | Failed)  # type: ignore[arg-type]
        if not isinstance(ready, Ready):
            raise AssertionError(f"{family} could not be loaded: {ready}")
        return ready

    def messages_of(self, job_id: str) -> list[NodeMessage]:
        """Return what was heard about one job."""
        return [m for m in self.heard if not isinstance(m, Log | Stats) and getattr(m, "id", None) == job_id]


def submit(
    job_id: str,
    folder: Path,
    task: str = "toy.run",
    attempt: int = 1,
    previews: bool = False,
    inputs: Mapping[str, InputRef] | None = None,
    **params: Any,
) -> Submit:
    """Return a ``submit`` whose outputs go below ``folder``."""
    return Submit(job_id, attempt, task, params, inputs or {}, str(folder / f"{job_id}-{attempt}"), previews)


def _pipe() -> tuple[int, int]:
    """A pipe on descriptors that cannot be 3 or 4, so that placing one end does not overwrite the other."""
    low = os.pipe()
    high = tuple(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in low)
    for fd in low:
        os.close(fd)
    return high[0], high[1]


def _place(to_node: int, from_node: int) -> None:
    os.dup2(to_node, READ_FD)
    os.dup2(from_node, WRITE_FD)
