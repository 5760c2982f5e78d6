"""A pool of encoded clips on the device: rendered and encoded a chunk at a time, drawn from many times.

Encoding costs more than a training step; with every clip drawn several times (each time with other noise)
before a newer one takes its place, it costs a tenth of the time. What the pool holds at a step follows from
the seed and the step alone, so that a resumed run draws the same batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Encoded:
    """Rows of normalised latents as tokens [N, S, C] with the token ids and mask [N, L] of their captions."""

    latents: Tensor
    ids: Tensor
    mask: Tensor

    def rows(self, index: Tensor) -> Encoded:
        """The rows of `index` [B]."""
        return Encoded(self.latents[index], self.ids[index], self.mask[index])

    @staticmethod
    def joined(parts: Iterable[Encoded]) -> Encoded:
        """The rows of all parts."""
        latents, ids, mask = zip(*((part.latents, part.ids, part.mask) for part in parts), strict=True)
        return Encoded(torch.cat(latents), torch.cat(ids), torch.cat(mask))


class LatentPool:
    """The `chunks` newest chunks, one of them renewed every `refresh` steps.

    `encode(number)` makes chunk `number`, the same whenever it is called.
    """

    def __init__(self, encode: Callable[[int], Encoded], chunks: int, refresh: int) -> None:
        self.encode, self.chunks, self.refresh = encode, chunks, refresh
        self._held: dict[int, Encoded] = {}
        self._all: Encoded | None = None

    def draw(self, step: int, count: int, generator: torch.Generator) -> Encoded:
        """`count` random rows of what the pool holds at `step`, with replacement."""
        held = self._at(step // self.refresh)
        index = torch.randint(len(held.ids), (count,), generator=generator, device=held.ids.device)
        return held.rows(index)

    def _at(self, first: int) -> Encoded:
        wanted = range(first, first + self.chunks)
        if self._all is None or set(self._held) != set(wanted):
            self._all = None
            self._held = {number: self._held.get(number) or self.encode(number) for number in wanted}
            self._all = Encoded.joined(self._held.values())
        return self._all
