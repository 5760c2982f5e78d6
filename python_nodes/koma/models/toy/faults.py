"""The faults of the toy family. Each is the real thing: a process that ends, a thread that never comes
back."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from typing import NoReturn

from koma.models.toy.params import Fault, ToyParams


def active(params: ToyParams, attempt: int) -> Fault:
    """Return the fault that this attempt shall meet."""
    healed = params.fail_attempts is not None and attempt > params.fail_attempts
    return "none" if healed else params.fail


def strike(fault: Fault, step: int) -> None:
    """Let a fault of stepping happen."""
    match fault:
        case "step":
            raise RuntimeError(f"the toy was told to fail in step {step}")
        case "oom":
            raise MemoryError("the toy was told to run out of memory")
        case "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(3)
        case "hang":
            _sleep_forever()
        case "hang_gil":
            _sleep_holding_the_interpreter()
        case "print":
            _print_garbage()


def _sleep_forever() -> NoReturn:
    while True:
        time.sleep(3600)


def _sleep_holding_the_interpreter() -> NoReturn:
    """No other Python thread runs meanwhile: ``PyDLL``, unlike ``CDLL``, keeps the global interpreter
    lock."""
    while True:
        ctypes.PyDLL(None).sleep(3600)


def _print_garbage() -> None:
    print("\x00\x00\x00\x05hello, this is not a frame")
    print("Traceback (most recent call last): only a joke", file=sys.stderr)
    sys.stdout.flush()
    os.write(1, bytes(range(256)))
    os.write(2, b"\xff\xfe\x00")
