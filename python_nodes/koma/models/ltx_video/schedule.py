"""The noise levels of one job. A stock scheduler makes the table; the Euler steps are taken here, per row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Schedule:
    """Noise levels from 1 to 0."""

    sigmas: torch.Tensor
    """[steps + 1], float32"""
    timesteps: torch.Tensor
    """[steps]: what the transformer is told, 1000 sigma"""
    stochastic: bool
    """Draw fresh noise in every step, as the distilled 0.9.6 checkpoint wants."""

    @property
    def steps(self) -> int:
        """Number of forwards."""
        return len(self.timesteps)


def make_schedule(scheduler: Any, steps: int, tokens: int, device: torch.device) -> Schedule:
    """Make the table of ``scheduler``'s configuration for ``steps`` steps over ``tokens`` video tokens.

    Dynamic shifting moves noise levels up for larger videos (arXiv:2403.03206, 5.3.2); its slope is the
    stock pipeline's.
    """
    if steps == 1:  # straight from noise; the stretch of some configurations would divide by zero
        only = torch.tensor([1.0, 0.0], device=device)
        times = only[:1] * scheduler.config.num_train_timesteps
        return Schedule(only, times, bool(scheduler.config.get("stochastic_sampling")))
    private = type(scheduler).from_config(scheduler.config)
    config = private.config
    linear = np.linspace(1.0, 1 / steps, steps)
    if config.use_dynamic_shifting:
        private.set_timesteps(sigmas=linear, mu=_shift(config, tokens), device=device)
    else:
        private.set_timesteps(sigmas=linear, device=device)
    return Schedule(private.sigmas.to(device), private.timesteps, bool(config.get("stochastic_sampling")))


def _shift(config: Any, tokens: int) -> float:
    slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
    return float(config.base_shift + slope * (tokens - config.base_image_seq_len))
