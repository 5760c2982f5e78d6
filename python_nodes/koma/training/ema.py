"""Exponential moving average of the weights: what is shown and exported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """A running average of every floating-point tensor of some modules, kept on their device in float32."""

    def __init__(self, modules: dict[str, nn.Module], decay: float) -> None:
        self.decay = decay
        self.live = {
            f"{prefix}.{name}": tensor
            for prefix, module in modules.items()
            for name, tensor in (*module.named_parameters(), *module.named_buffers())
            if tensor.is_floating_point()
        }
        self.mean = {name: tensor.detach().float().clone() for name, tensor in self.live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the live weights; the first steps forget faster so that the start does not linger."""
        decay = min(self.decay, (1 + step) / (10 + step))
        live = [tensor.detach().float() for tensor in self.live.values()]
        torch._foreach_lerp_(list(self.mean.values()), live, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the modules hold the averaged weights; afterwards their own again, bit by bit."""
        kept = {name: tensor.detach().clone() for name, tensor in self.live.items()}
        self._write(self.mean)
        try:
            yield
        finally:
            self._write(kept)

    @torch.no_grad()
    def _write(self, values: dict[str, Tensor]) -> None:
        for name, tensor in self.live.items():
            tensor.copy_(values[name])
