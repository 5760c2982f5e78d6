"""One step of ``AmusedScheduler`` for many rows at once: draw a guess of every token, keep those that are
surest.

Tokens are those that the scheduler draws row by row, bit for bit: every row's noise comes from its own
generator, in the same amounts and order; what is done with it is done for all rows together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from koma.runtime.pulse import beat

_LEAST = 1e-20
"""Logarithms are taken of nothing smaller."""


@dataclass(frozen=True)
class Row:
    """What a row needs beside its logits and tokens."""

    generator: torch.Generator
    masked: int
    """Tokens that stay masked after this step, at most"""
    temperature: float
    last: bool
    """Nothing stays masked"""


def sample(
    logits: torch.Tensor, tokens: torch.Tensor, rows: Sequence[Row], mask_id: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """From logits [n, codes, h, w] and tokens [n, h, w] to the tokens that are kept and the guess of all.

    Raises RuntimeError where logits are not numbers.
    """
    beat()
    before = tokens.flatten(1)
    unknown = before == mask_id
    probabilities = logits.flatten(2).permute(0, 2, 1).softmax(-1)
    drawn = _draw(probabilities, rows)
    sureness = probabilities.gather(-1, drawn[..., None])[..., 0]
    if sureness.isnan().any():
        raise RuntimeError("the transformer's logits are not numbers")
    guess = torch.where(unknown, drawn, before)
    masking = _masking(torch.where(unknown, sureness, torch.finfo(sureness.dtype).max), unknown, rows)
    return torch.where(masking, mask_id, guess).view_as(tokens), guess.view_as(tokens)


def _draw(probabilities: torch.Tensor, rows: Sequence[Row]) -> torch.Tensor:
    """Draw from the last dimension as ``torch.multinomial`` does: the largest ratio to exponential noise."""
    if probabilities.device.type == "cpu":
        probabilities = probabilities.float()
    noise = torch.empty_like(probabilities)
    exponential = _Exponential(noise[0])
    for row, target in zip(rows, noise, strict=True):
        beat()
        exponential.fill(target, row.generator)
    beat()
    return torch.div(probabilities, noise, out=noise).argmax(-1)


def _masking(sureness: torch.Tensor, unknown: torch.Tensor, rows: Sequence[Row]) -> torch.Tensor:
    """Which tokens [n, tokens] stay masked: those of least confidence, with Gumbel noise on its logarithm."""
    noise = torch.ones_like(sureness)
    for row, target in zip(rows, noise, strict=True):
        if not row.last:
            target.uniform_(0, 1, generator=row.generator)
    gumbel = -torch.log((-torch.log(noise.clamp(_LEAST))).clamp(_LEAST))
    device = sureness.device
    temperatures = torch.tensor([[row.temperature] for row in rows], device=device)
    wanted = torch.tensor([[row.masked] for row in rows], device=device)
    going_on = torch.tensor([[not row.last] for row in rows], device=device)
    confidence = torch.log(sureness.clamp(_LEAST)) + temperatures * gumbel
    # Fewer than before, but one at least while steps are left.
    count = wanted.minimum(unknown.sum(-1, keepdim=True) - 1).clamp(min=1) * going_on
    return confidence < confidence.sort(-1).values.gather(1, count)


class _Exponential:
    """Exponential noise as ``Tensor.exponential_`` draws it.

    On the CPU that takes the logarithms one after another, two thirds of a row's time in a small model; the
    same numbers come of drawing first and taking all logarithms at once.
    """

    def __init__(self, like: torch.Tensor) -> None:
        split = like.device.type == "cpu" and like.dtype == torch.float32
        self._uniform = torch.empty_like(like, dtype=torch.float64) if split else None

    def fill(self, target: torch.Tensor, generator: torch.Generator) -> None:
        """Fill ``target`` from ``generator``."""
        if self._uniform is None:
            target.exponential_(1, generator=generator)
        else:
            target.copy_(self._uniform.uniform_(0, 1, generator=generator).neg_().log1p_()).neg_()
