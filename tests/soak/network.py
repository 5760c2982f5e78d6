"""A network of the soak's own: its processes see no other, and it can be cut without anybody noticing.

The soak runs in a network of its own (``enter``); the second peer in another one, behind a virtual cable.
With the cable out, packets are lost and nobody is told, as with a switch that died.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = "10.77.0.1"
THERE = "10.77.0.2"
CABLE = "koma0"
MARK = "KOMA_SOAK_INSIDE"
CLONE_NEWNET = 0x40000000  # linux/sched.h


def enter() -> None:
    """Start this program again in a network and a table of processes of its own; nothing outlives it.

    Needs root or user namespaces; ends the program with a message where it has neither.
    """
    if os.environ.get(MARK):
        return
    own = ["--net", "--pid", "--fork", "--mount-proc", "--kill-child"]
    root = [] if os.geteuid() == 0 else ["--map-root-user"]
    if subprocess.run(["unshare", *root, *own, "true"], check=False).returncode:
        sys.exit("make soak needs network namespaces: run it as root, or allow user namespaces")
    command = ["unshare", *root, *own, sys.executable, "-m", "tests.soak", *sys.argv[1:]]
    os.execvpe("unshare", command, {**os.environ, MARK: "yes"})


class Network:
    """This network and the one of the second peer."""

    def __init__(self) -> None:
        self._far = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        self._own = Path("/proc/self/ns/net")
        self._wait_for_far()
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "link", "add", CABLE, "type", "veth", "peer", "name", CABLE, "netns", str(self._far.pid))
        self._address(HERE, [])
        self._address(THERE, ["nsenter", "--net", "--target", str(self._far.pid)])

    def cut(self) -> None:
        """Pull the cable."""
        _run("ip", "link", "set", CABLE, "down")

    def heal(self) -> None:
        """Put it back."""
        _run("ip", "link", "set", CABLE, "up")

    @contextmanager
    def there(self) -> Iterator[None]:
        """What this thread starts meanwhile runs in the network of the second peer."""
        with open(f"/proc/{os.getpid()}/ns/net") as own, open(f"/proc/{self._far.pid}/ns/net") as far:
            _set_network(far.fileno())
            try:
                yield
            finally:
                _set_network(own.fileno())

    def close(self) -> None:
        """End what keeps the second network."""
        self._far.kill()
        self._far.wait()

    def _wait_for_far(self) -> None:
        while os.path.samefile(self._own, f"/proc/{self._far.pid}/ns/net"):
            pass

    def _address(self, address: str, inside: list[str]) -> None:
        _run(*inside, "ip", "link", "set", "lo", "up")
        _run(*inside, "ip", "address", "add", f"{address}/24", "dev", CABLE)
        _run(*inside, "ip", "link", "set", CABLE, "up")


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def _set_network(descriptor: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
