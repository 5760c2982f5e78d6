"""What a device does at best, measured with torch and its own choice of threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

_SIDE = {"cpu": 1024, "cuda": 8192}
_COPIED_BYTES = {"cpu": 1 << 28, "cuda": 1 << 32}
_TRIES = 20


@dataclass(frozen=True)
class Ceilings:
    """Operations and bytes of a second."""

    operations: float
    """Of a large matrix product"""
    bytes: float
    """Read and written while a large tensor is copied"""

    def seconds(self, operations: float, bytes_read: float) -> float:
        """The least time for so much work: the roofline model of Williams, Waterman and Patterson (2009)."""
        return max(operations / self.operations, bytes_read / self.bytes)


def measure(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """Take the best of some tries of each."""
    side = _SIDE[device.type]
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    product = seconds(lambda: left @ right, device, min)
    source = torch.empty(_COPIED_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = seconds(lambda: target.copy_(source), device, min)
    return Ceilings(2 * side**3 / product, 2 * source.numel() / copy)


def seconds(
    action: Callable[[], object],
    device: torch.device,
    choose: Callable[[list[float]], float],
    tries: int = _TRIES,
) -> float:
    """What ``action`` takes, of several tries after a first one, on an idle device."""
    taken = []
    for _ in range(tries + 1):
        began = time.perf_counter()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - began)
    return choose(taken[1:])
