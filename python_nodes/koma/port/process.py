"""What this process is to the operating system: its name, its signals, and its end with the gateway's."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

EX_OK, EX_USAGE, EX_DATAERR, EX_SOFTWARE = 0, 64, 65, 70
"""Exit codes of ``sysexits.h``: drained or left alone; not started by a gateway; the gateway broke the
protocol; this node is broken."""

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends (``prctl(2)``), even in the middle of a hung
    step.

    The parent is ERTS's ``erl_child_setup``, which ends with the BEAM. Only Linux has this; elsewhere the
    end of input has to do.
    """
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(EX_OK)  # the parent ended between the two calls


def set_name(name: str) -> None:
    """Show ``name`` in ``ps`` and ``top`` (15 bytes of it), on Linux."""
    if sys.platform.startswith("linux"):
        _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()[:15]))


def on_terminate(action: Callable[[], None]) -> None:
    """Call ``action`` on SIGTERM. SIGINT is ignored: Ctrl-C in a terminal is the gateway's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda _number, _frame: action())


def _prctl(option: int, argument: object) -> None:
    ctypes.CDLL(None).prctl(option, argument, 0, 0, 0)
