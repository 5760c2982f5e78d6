"""The renderer: scene arrays in, uint8 clips out, batched on any device.

Objects are only moved and scaled, so a sprite is resampled by two matrix products (rows, then columns) with
an antialiasing triangle filter whose support follows the reduction, as in Pillow's resize.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .backgrounds import paint_backgrounds
from .scene import MAX_OBJECTS, SceneBatch
from .sprites import atlas
from .transfer import on_device

LARGEST_SCALE = 0.6
BORDER = 3
"""Transparent px around a stored sprite; wider than the filter's reach beyond the edge matters."""
CHUNK_VALUES = 2**27
"""Bound of one intermediate array (float32 values), so that a large batch does not fill the memory."""


class Renderer:
    """Draws scenes at `size` × `size` px with `frames` frames on `device`."""

    def __init__(self, size: int = 128, frames: int = 17, device: str | torch.device = "cpu") -> None:
        self.size, self.frames, self.device = size, frames, torch.device(device)
        self.side = max(16, round(LARGEST_SCALE * size)) + 2 * BORDER
        self._sprites = _shrunk(torch.from_numpy(atlas()), self.side).to(self.device)
        self._backgrounds = torch.from_numpy(paint_backgrounds(size)).to(self.device)

    @torch.no_grad()
    def clips(self, batch: SceneBatch) -> Tensor:
        """Return uint8 `[B, frames, 3, size, size]`, RGB."""
        return self._draw(batch, torch.linspace(0, 1, self.frames))

    @torch.no_grad()
    def images(self, batch: SceneBatch, frame: int = 0) -> Tensor:
        """Return frame number `frame` of every clip: uint8 `[B, 3, size, size]`, RGB."""
        return self._draw(batch, torch.linspace(0, 1, self.frames)[frame].reshape(1))[:, 0]

    @torch.no_grad()
    def frames_at(self, batch: SceneBatch, times: Tensor) -> Tensor:
        """Return uint8 `[B, T, 3, size, size]` at `times` `[T]`, 0 for the first frame, 1 for the last."""
        return self._draw(batch, times.cpu())

    @property
    def backgrounds(self) -> Tensor:
        """The six backgrounds in catalogue order: uint8 `[6, 3, size, size]`, RGB."""
        return (self._backgrounds + 0.5).clamp(0, 255).to(torch.uint8)

    def grounds(self, batch: SceneBatch) -> Tensor:
        """Return the backgrounds without objects: uint8 `[B, 3, size, size]`, RGB."""
        return self.backgrounds[on_device(batch.background, self.device)]

    def object_pixels(self, batch: SceneBatch, frames: Tensor) -> Tensor:
        """Tell where frames [B, F, 3, H, W] of these scenes show an object: bool `[B, F, H, W]`."""
        return (frames != self.grounds(batch)[:, None]).any(2)

    @torch.no_grad()
    def cutouts(self, batch: SceneBatch, grey: float) -> tuple[Tensor, Tensor]:
        """Draw the first object of every scene, in its first frame, over plain `grey` (0 to 255).

        Returns uint8 `[B, 3, size, size]` and its opacity, float32 `[B, size, size]` in [0, 1].
        """
        kind, flip = on_device(batch.kind[:, 0], self.device), on_device(batch.flip[:, 0], self.device)
        path = on_device(torch.from_numpy(batch.start[:, :1]), self.device)
        layer = self._layer(kind, flip, path)[:, 0]
        opacity = layer[:, 3] / 255
        drawn = grey * (1 - opacity[:, None]) + layer[:, :3]
        return (drawn + 0.5).clamp(0, 255).to(torch.uint8), opacity

    def _draw(self, batch: SceneBatch, times: Tensor) -> Tensor:
        rows = max(1, CHUNK_VALUES // (len(times) * 4 * self.size * self.size))
        parts = [self._draw_chunk(batch[i : i + rows], times) for i in range(0, len(batch), rows)]
        if not parts:
            return torch.empty(0, len(times), 3, self.size, self.size, dtype=torch.uint8, device=self.device)
        return torch.cat(parts)

    def _draw_chunk(self, batch: SceneBatch, times: Tensor) -> Tensor:
        """Compose one chunk in float32 [0, 255] and round."""
        start, end = torch.from_numpy(batch.start), torch.from_numpy(batch.end)
        path = torch.lerp(start[:, None], end[:, None], times[None, :, None, None])
        path = on_device(path, self.device)
        kind = on_device(batch.kind, self.device)
        flip = on_device(batch.flip, self.device)
        ground = self._backgrounds[on_device(batch.background, self.device)]
        canvas = ground[:, None].expand(-1, len(times), -1, -1, -1)
        for i in range(MAX_OBJECTS):
            shown = batch.count > i
            if shown.all():
                canvas = self._over(canvas, kind[:, i], flip[:, i], path[:, :, i])
            elif shown.any():
                rows = on_device(shown.nonzero()[0], self.device)
                canvas = canvas.contiguous()
                canvas[rows] = self._over(canvas[rows], kind[rows, i], flip[rows, i], path[rows, :, i])
        return (canvas + 0.5).clamp(0, 255).to(torch.uint8)

    def _over(self, canvas: Tensor, kind: Tensor, flip: Tensor, path: Tensor) -> Tensor:
        """Lay one object per clip over `canvas` `[B, T, 3, H, W]`; `path` is `[B, T, 3]`."""
        layer = self._layer(kind, flip, path)
        return canvas * (1 - layer[:, :, 3:] / 255) + layer[:, :, :3]

    def _layer(self, kind: Tensor, flip: Tensor, path: Tensor) -> Tensor:
        """Return one object per clip alone, premultiplied RGBA in [0, 255]: `[B, T, 4, H, W]`."""
        count, times, size, side = len(kind), path.shape[1], self.size, self.side
        columns = self._filter(path[..., 0], path[..., 2])
        columns = torch.where(flip[:, None, None, None], columns.flip(-1), columns)
        rows = self._filter(path[..., 1], path[..., 2])
        sprite = self._sprites[kind].reshape(count, side, 4 * side)
        strips = torch.bmm(rows.reshape(count, times * size, side), sprite)
        strips = strips.reshape(count * times, size * 4, side)
        layer = torch.bmm(strips, columns.reshape(count * times, size, side).transpose(1, 2))
        return layer.reshape(count, times, size, 4, size).transpose(2, 3)

    def _filter(self, centre: Tensor, scale: Tensor) -> Tensor:
        """Return resampling weights `[B, T, size, side]` for one axis of objects at `centre` with `scale`."""
        inner = self.side - 2 * BORDER
        ratio = (inner / (scale * self.size))[..., None]
        pixel = torch.arange(self.size, device=self.device) + 0.5
        at = (pixel - centre[..., None] * self.size) * ratio + self.side / 2
        tap = torch.arange(self.side, device=self.device) + 0.5
        reach = ratio[..., None].clamp(min=1.0)
        weights = (1 - (at[..., None] - tap).abs() / reach).clamp(min=0)
        return weights / weights.sum(-1, keepdim=True).clamp(min=0.5)


def _shrunk(sprites: Tensor, side: int) -> Tensor:
    """Resize atlas squares to `side` px with a transparent border; returns float32 `[K, side, 4, side]`."""
    inner = side - 2 * BORDER
    small = functional.interpolate(
        sprites.float(), (inner, inner), mode="bicubic", antialias=True, align_corners=False
    )
    alpha = small[:, 3:].clamp(0, 255)
    small = torch.cat([small[:, :3].clamp(min=0).minimum(alpha), alpha], 1)
    return functional.pad(small, [BORDER] * 4).transpose(1, 2).contiguous()
