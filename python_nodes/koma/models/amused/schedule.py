"""How many tokens a job leaves masked after each step, and how random their order is: the tables of
diffusers' ``AmusedScheduler`` (MaskGIT, arXiv:2202.04200, 3.3), made once per job."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Schedule:
    """One number for each step."""

    masked: list[int]
    """Tokens that stay masked after it, at most"""
    temperatures: list[float]
    """Scale of the noise on the confidence by which they are chosen"""


def make_schedule(
    scheduler: Any, steps: int, temperature: float, tokens: int, device: torch.device
) -> Schedule:
    """Make the tables for ``steps`` steps over ``tokens`` image tokens; the temperature falls to 0.

    The arithmetic is that of ``AmusedScheduler.step`` in float32 on ``device``, so that floors fall alike.
    """
    ratio = torch.arange(1, steps + 1, device=device) / steps
    kind = scheduler.config.masking_schedule
    if kind not in ("cosine", "linear"):
        raise ValueError(f"unknown masking schedule {kind}")
    share = torch.cos(ratio * math.pi / 2) if kind == "cosine" else 1 - ratio
    masked = (tokens * share).floor().long().tolist()
    temperatures = torch.linspace(temperature, 0.0, steps, device=device).tolist()
    return Schedule(masked, temperatures)
