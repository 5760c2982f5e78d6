"""Sheets of the worst samples, as PNG files in docs/quality."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from koma.training.evaluate.context import Context
from koma.training.world.scene import SceneBatch

SHOWN_IMAGES, SHOWN_CLIPS = 24, 10
COLUMNS = 6
CLIP_FRAMES = 5
NOTE_HEIGHT = 26


def image_sheet(
    context: Context, name: str, images: Tensor, worst: Sequence[int], notes: Sequence[str]
) -> None:
    """Write the first of the `worst` rows of uint8 pictures `[N, 3, H, W]`, each with its note."""
    rows = list(worst)[:SHOWN_IMAGES]
    tiles = [images[row] for row in rows]
    _save(context, name, tiles, list(notes), COLUMNS)


def clip_sheet(
    context: Context,
    name: str,
    clips: SceneBatch | Tensor,
    worst: Sequence[int],
    notes: Sequence[str],
) -> None:
    """Write five frames of each of the first `worst` clips, uint8 `[N, F, 3, H, W]` or scenes to render."""
    rows = list(worst)[:SHOWN_CLIPS]
    shown = clips if isinstance(clips, Tensor) else context.renderer.clips(clips[np.array(rows, np.int64)])
    tiles = []
    for clip in shown[rows] if isinstance(clips, Tensor) else shown:
        chosen = torch.linspace(0, len(clip) - 1, CLIP_FRAMES).round().long()
        tiles.append(torch.cat(list(clip[chosen.to(clip.device)]), dim=-1))
    _save(context, name, tiles, list(notes), 1)


def _save(context: Context, name: str, tiles: list[Tensor], notes: list[str], columns: int) -> None:
    """Write one PNG; without tiles, remove an older one."""
    path = context.sheets / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not tiles:
        path.unlink(missing_ok=True)
        return
    height, width = tiles[0].shape[-2:]
    lines = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (width * min(columns, len(tiles)), (height + NOTE_HEIGHT) * lines), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (tile, note) in enumerate(zip(tiles, notes, strict=False)):
        x, y = index % columns * width, index // columns * (height + NOTE_HEIGHT)
        sheet.paste(Image.fromarray(tile.permute(1, 2, 0).cpu().numpy()), (x, y))
        draw.multiline_text((x + 2, y + height), _wrapped(note, width // 6), fill="black", spacing=1)
    sheet.save(path, optimize=True)


def _wrapped(note: str, width: int) -> str:
    """Break a note into two lines of at most `width` characters."""
    if "\n" in note:
        return "\n".join(line[:width] for line in note.split("\n")[:2])
    return note[:width] + "\n" + note[width : 2 * width]
