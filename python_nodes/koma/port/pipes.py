"""The two pipes to the gateway, as Erlang's ``nouse_stdio`` gives them."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

READ_FD, WRITE_FD = 3, 4
_CHUNK = 1 << 16
_MANY = 1_000
"""Frames that may wait for a slow reader before those who bring more have to wait, too."""


class Pipes:
    """Bytes from one file descriptor, whole frames to another."""

    def __init__(self, read_fd: int = READ_FD, write_fd: int = WRITE_FD) -> None:
        self._read_fd, self._write_fd = read_fd, write_fd
        self._lock = threading.Lock()
        self._waiting: deque[bytes] = deque()
        self._holding: set[int] = set()
        for fd in (read_fd, write_fd):
            os.set_inheritable(fd, False)  # a grandchild that held them would hide our end from the gateway

    def read(self) -> bytes:
        """Wait for bytes; b"" at the end of input."""
        try:
            return os.read(self._read_fd, _CHUNK)
        except OSError:
            return b""

    def write(self, data: bytes) -> None:
        """Write all of ``data``, never mixed with the data of another thread; raises OSError (the gateway is
        gone).

        While a thread writes, it takes along what the others bring: they do not wait for it.
        """
        self._waiting.append(data)
        if threading.get_ident() not in self._holding:
            self._flush()

    @contextmanager
    def together(self) -> Iterator[None]:
        """What the calling thread writes meanwhile may wait for the end and go with one system call."""
        self._holding.add(threading.get_ident())
        try:
            yield
        finally:
            self._holding.discard(threading.get_ident())
            self._flush()

    def flush(self) -> None:
        """Wait until whatever threads have brought is written; raises OSError (the gateway is gone)."""
        with self._lock:
            self._write_waiting()

    def _flush(self) -> None:
        # Looked at again after the lock is free: somebody may have left data just before.
        while self._waiting and self._lock.acquire(blocking=len(self._waiting) > _MANY):
            try:
                self._write_waiting()
            finally:
                self._lock.release()

    def _write_waiting(self) -> None:
        view = memoryview(b"".join(self._waiting.popleft() for _ in range(len(self._waiting))))
        while view:
            view = view[os.write(self._write_fd, view) :]
