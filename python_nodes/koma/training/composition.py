"""Scenes laid together on the token grid from the tokens of their parts, so that one object is one pattern.

An autoencoder whose norms look at the whole picture encodes an object differently on every background and at
every place: of the tokens of one object of one size 27 % were equal, and 54 % of the background's were those
of the empty one. A model that paints must then learn noise. Here an object is encoded alone, in the middle
of plain grey, and its tokens are laid on those of the empty background; the decoder learns to read that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from koma.training.world.render import Renderer
from koma.training.world.scene import MAX_OBJECTS, Scene, SceneBatch, SceneObject, batch_of

GREY = 128.0
VISIBLE = 0.1
"""Opacity from which on a pixel makes its token one of the object."""

Sizes = TypeVar("Sizes", int, NDArray[np.int64])
Encode = Callable[[Tensor], Tensor]
"""Makes `[N, D, H, W]`, latents or token ids, of images `[N, 3, S, S]` in [0, 1]."""


class Composition:
    """Lays scenes on a grid of `cells` cells on a side, see `snapped`, drawn by `renderer`."""

    def __init__(self, renderer: Renderer, cells: int) -> None:
        self.renderer, self.cells = renderer, cells
        self._grounds = _unit(renderer.backgrounds)

    def compose(self, batch: SceneBatch, encode: Encode) -> Tensor:
        """What `encode` makes of the parts of the scenes, laid together: `[B, D, H, W]`."""
        parts, part_of = self._parts(batch)
        objects, opacity = self.renderer.cutouts(parts, GREY)
        encoded = encode(torch.cat([self._grounds, _unit(objects)]))
        grounds, objects = encoded[: len(self._grounds)], encoded[len(self._grounds) :]
        side = objects.shape[-1]
        shown = functional.max_pool2d(opacity[:, None], self.renderer.size // side) > VISIBLE
        shown &= self._own_cells(parts, side)
        laid = grounds[self._to_device(batch.background)]
        for number in range(MAX_OBJECTS):
            rows = self._to_device(np.flatnonzero(batch.count > number))
            chosen = self._to_device(part_of[batch.count > number, number])
            shift = self._shifts(batch, number, side)[rows]
            moved, covers = _moved(objects[chosen], shift), _moved(shown[chosen], shift)
            laid = laid.index_copy(0, rows, torch.where(covers, moved, laid[rows]))
        return laid

    def _parts(self, batch: SceneBatch) -> tuple[SceneBatch, NDArray[np.int64]]:
        """The different objects of a batch, each in the middle, and which of them an object is: `[B, 2]`."""
        present = np.arange(MAX_OBJECTS) < batch.count[:, None]
        keys = np.stack([batch.kind, batch.flip.astype(np.int64), self._sizes(batch)], -1)
        different, inverse = np.unique(keys[present], axis=0, return_inverse=True)
        part_of = np.zeros(present.shape, np.int64)
        part_of[present] = inverse.reshape(-1)
        return batch_of([self._alone(*key) for key in different.tolist()]), part_of

    def _alone(self, kind: int, flip: int, size: int) -> Scene:
        scale = size / self.cells
        middle = self._begin(size) / self.cells + scale / 2
        item = SceneObject(kind, middle, middle, scale, middle, middle, scale, 0, bool(flip))
        return Scene(0, (item,))

    def _own_cells(self, parts: SceneBatch, side: int) -> Tensor:
        """Tokens in the cells of each part, bool `[N, 1, side, side]`: no faint edge beyond them."""
        sizes = self._sizes(parts)[:, 0]
        begin = self._begin(sizes)
        cell = np.arange(side) * self.cells // side
        inside = (cell >= begin[:, None]) & (cell < (begin + sizes)[:, None])
        return torch.from_numpy(inside[:, None, :, None] & inside[:, None, None, :]).to(self.renderer.device)

    def _begin(self, sizes: Sizes) -> Sizes:
        """The cells in which objects of so many cells begin that stand in the middle."""
        return (self.cells - sizes) // 2

    def _sizes(self, batch: SceneBatch) -> NDArray[np.int64]:
        return np.rint(batch.start[:, :, 2] * self.cells).astype(np.int64)

    def _shifts(self, batch: SceneBatch, number: int, side: int) -> Tensor:
        """How far, in tokens (down, right), objects number `number` lie from the middle: `[B, 2]`."""
        sizes = self._sizes(batch)[:, number]
        corner = batch.start[:, number, 1::-1] - batch.start[:, number, 2:] / 2
        cells = np.rint(corner * self.cells).astype(np.int64) - self._begin(sizes)[:, None]
        return self._to_device(cells * (side // self.cells))

    def _to_device(self, array: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(array).to(self.renderer.device)


def _unit(images: Tensor) -> Tensor:
    return images.float() / 255


def _moved(maps: Tensor, shift: Tensor) -> Tensor:
    """Roll every map of [N, D, H, W] by its own `shift` [N, 2], down and right."""
    height, width = maps.shape[-2:]
    rows = (torch.arange(height, device=maps.device) - shift[:, :1]) % height
    columns = (torch.arange(width, device=maps.device) - shift[:, 1:]) % width
    index = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)[:, None]
    return maps.flatten(2).gather(2, index.expand(-1, maps.shape[1], -1)).view_as(maps)
