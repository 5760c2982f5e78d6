"""Moving arrays to the device without waiting for it."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


def on_device(array: NDArray[Any] | Tensor, device: torch.device) -> Tensor:
    """Copy an array or CPU tensor to `device`; to a GPU through pinned memory, so that the copy queues up."""
    tensor = array if isinstance(array, Tensor) else torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
