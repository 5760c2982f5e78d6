"""Chooses the device and the number format of a model node, once, with the reason."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch

from koma.errors import KomaError

logger = logging.getLogger(__name__)

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class Placement:
    """Where a checkpoint lives and in which number format."""

    device: torch.device
    dtype: torch.dtype
    reason: str

    @property
    def dtype_name(self) -> str:
        """The name without "torch.", e.g. "bfloat16"."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def stable_dtype(self) -> torch.dtype:
        """The format for modules that overflow in float16 (aMUSEd's VQ model): float32 in that case."""
        return torch.float32 if self.dtype == torch.float16 else self.dtype


def place(device: str = "auto", dtype: str = "auto") -> Placement:
    """Choose device and dtype.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:N".
        dtype: "auto" or a key of :data:`DTYPES`.

    Raises:
        KomaError: ``load_failed`` for a device or dtype that this machine or Koma does not have.
    """
    chosen, why_device = _device(device)
    number, why_dtype = _dtype(dtype, chosen)
    placement = Placement(chosen, number, f"device {chosen}: {why_device}; dtype {number}: {why_dtype}")
    logger.info(placement.reason)
    return placement


def _device(name: str) -> tuple[torch.device, str]:
    usable = torch.cuda.is_available()
    if name == "auto":
        return (
            (torch.device("cuda"), "CUDA is available") if usable else (torch.device("cpu"), "no CUDA here")
        )
    if name == "cpu":
        return torch.device("cpu"), "asked for"
    if name.split(":")[0] != "cuda":
        raise KomaError(
            "load_failed", f"unknown device {name!r}", field="device", value=name, bound="auto, cpu, cuda"
        )
    if not usable or (":" in name and int(name.split(":")[1]) >= torch.cuda.device_count()):
        raise KomaError("load_failed", f"device {name!r} is not on this machine", field="device", value=name)
    return torch.device(name), "asked for"


def _dtype(name: str, device: torch.device) -> tuple[torch.dtype, str]:
    if name == "auto" and device.type == "cuda":
        if torch.cuda.is_bf16_supported():
            return torch.bfloat16, "the GPU computes in it and it keeps float32's range"
        return torch.float16, "the GPU has no bfloat16"
    if name == "auto":
        return torch.float32, "exact, and small batches on a CPU gain little from less"
    if name not in DTYPES:
        raise KomaError(
            "load_failed", f"unknown dtype {name!r}", field="dtype", value=name, bound=", ".join(DTYPES)
        )
    return DTYPES[name], "asked for"
