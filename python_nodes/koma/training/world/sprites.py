"""The sprite atlas: Noto Color Emoji bitmaps as premultiplied RGBA squares.

The atlas is drawn from the font once with Pillow and may be kept in a file for machines without the font.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .catalogue import OBJECTS

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
ATLAS_FILE = Path(os.environ.get("KOMA_SPRITES", "runs/sprites.npz"))
STRIKE = 109
"""The only bitmap size of the font, in px per em; its glyphs are 136 × 128 px."""
SIDE = 128
"""Side of an atlas square in px; the longer side of every emoji fills it."""


@lru_cache(maxsize=1)
def atlas() -> NDArray[np.uint8]:
    """Return premultiplied RGBA squares `[len(OBJECTS), 4, SIDE, SIDE]`, from the font or `ATLAS_FILE`.

    Raises FileNotFoundError where neither is there, ValueError where the file belongs to another catalogue.
    """
    if FONT.exists():
        return draw_atlas()
    return read_atlas(ATLAS_FILE)


def draw_atlas() -> NDArray[np.uint8]:
    """Draw every object of the catalogue from the font."""
    return np.stack([_draw(kind.emoji) for kind in OBJECTS])


def write_atlas(path: Path = ATLAS_FILE) -> None:
    """Draw the atlas and write it to `path` together with the names it stands for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, sprites=draw_atlas(), names=np.array([kind.name for kind in OBJECTS]))


def read_atlas(path: Path) -> NDArray[np.uint8]:
    """Read an atlas that `write_atlas` wrote."""
    if not path.exists():
        raise FileNotFoundError(f"no emoji font at {FONT} and no sprite atlas at {path} (set KOMA_SPRITES)")
    with np.load(path, allow_pickle=False) as stored:
        if stored["names"].tolist() != [kind.name for kind in OBJECTS]:
            raise ValueError(f"{path} holds the sprites of another catalogue: write it again")
        sprites: NDArray[np.uint8] = stored["sprites"]
    return sprites


def _draw(emoji: str) -> NDArray[np.uint8]:
    """Draw one emoji, cut to its bounding box, centred in a square; returns `[4, SIDE, SIDE]`."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.truetype(str(FONT), STRIKE)
    canvas = Image.new("RGBA", (2 * SIDE, 2 * SIDE))
    ImageDraw.Draw(canvas).text((SIDE // 2, SIDE // 2), emoji, font=font, embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        raise ValueError(f"{FONT} draws nothing for {emoji!r}")
    glyph = canvas.crop(box)
    side = max(glyph.size)
    square = Image.new("RGBA", (side, side))
    square.paste(glyph, ((side - glyph.width) // 2, (side - glyph.height) // 2))
    premultiplied = square.convert("RGBa").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    pixels = np.frombuffer(premultiplied.tobytes(), np.uint8).reshape(SIDE, SIDE, 4).copy()
    pixels[:, :, :3] = np.minimum(pixels[:, :, :3], pixels[:, :, 3:])
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


if __name__ == "__main__":
    write_atlas()
    print(f"wrote {ATLAS_FILE} ({ATLAS_FILE.stat().st_size / 1e6:.1f} MB, {len(OBJECTS)} sprites)")
