"""Sample sheets: what a run makes, as PNG grids and GIF clips a person can look at."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

CAPTION_HEIGHT = 12


def _tiles(images: Tensor, columns: int, captions: list[str] | None) -> Image.Image:
    count, _, height, width = images.shape
    label = CAPTION_HEIGHT if captions else 0
    rows = -(-count // columns)
    sheet = Image.new("RGB", (columns * width, rows * (height + label)), "white")
    draw = ImageDraw.Draw(sheet)
    for index, image in enumerate(images):
        x, y = index % columns * width, index // columns * (height + label)
        sheet.paste(Image.fromarray(image.permute(1, 2, 0).numpy()), (x, y))
        if captions:
            draw.text((x + 1, y + height), captions[index][: max(1, width // 6)], fill="black")
    return sheet


def as_uint8(images: Tensor) -> Tensor:
    """Images in [0, 1], any floating dtype and device, as uint8 on the CPU."""
    if images.dtype == torch.uint8:
        return images.cpu()
    return images.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8).cpu()


def save_grid(images: Tensor, path: Path, columns: int = 8, captions: list[str] | None = None) -> None:
    """Write images [N, 3, H, W] (uint8, or float in [0, 1]) as one PNG grid, row by row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _tiles(as_uint8(images), columns, captions).save(path)


def save_clips(
    clips: Tensor, path: Path, columns: int = 4, fps: float = 8.0, captions: list[str] | None = None
) -> None:
    """Write clips [N, F, 3, H, W] (uint8, or float in [0, 1]) as one animated GIF grid."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = [_tiles(frame, columns, captions) for frame in as_uint8(clips).unbind(1)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=round(1000 / fps), loop=0)
