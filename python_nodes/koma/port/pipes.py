"""The two pipes to the gateway, as Erlang's ``nouse_stdio`` gives them."""

from __future__ import annotations

import os
import threading

READ_FD, WRITE_FD = 3, 4
_CHUNK = 1 << 16


class Pipes:
    """Bytes from one file descriptor, whole frames to another."""

    def __init__(self, read_fd: int = READ_FD, write_fd: int = WRITE_FD) -> None:
        self._read_fd, self._write_fd = read_fd, write_fd
        self._lock = threading.Lock()
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
        gone)."""
        view = memoryview(data)
        with self._lock:
            while view:
                view = view[os.write(self._write_fd, view) :]
