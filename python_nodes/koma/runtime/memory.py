"""Memory: what an out-of-memory error looks like, how to give memory back, how much is in use."""

from __future__ import annotations

import gc
import os
import sys
from typing import Any


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out, of the device or of the machine."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def is_device_lost(error: BaseException) -> bool:
    """Whether the process cannot use its device any more: CUDA keeps reporting such an error until it
    ends."""
    text = str(error).lower()
    return isinstance(error, RuntimeError) and "cuda error" in text and not is_out_of_memory(error)


def release(error: BaseException) -> None:
    """Give back what only the frames of ``error`` and unreachable objects still hold."""
    error.__traceback__ = error.__context__ = None
    gc.collect()
    torch = _cuda()
    if torch is not None:
        torch.cuda.empty_cache()


def resident_bytes() -> int:
    """Memory of this process in bytes (0 where the system does not tell)."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def device_bytes() -> int:
    """Memory that torch holds on the GPU in bytes; 0 without one."""
    torch = _cuda()
    return 0 if torch is None else int(torch.cuda.memory_reserved())


def _cuda() -> Any:
    """Return torch where a runner has imported it and has used a GPU; never imports it."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_initialized() else None
