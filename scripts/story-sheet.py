"""Draw what the demo made as one picture: frames of the input, the caption, the image, frames of the video.

make demo && .venv/bin/python scripts/story-sheet.py    writes docs/images/story.png
"""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).parents[1]
INPUT, STORY, SHEET = ROOT / "priv/demo/input.mp4", ROOT / "out/story", ROOT / "docs/images/story.png"
FRAMES, SIDE, GAP, LINE = 5, 128, 8, 22
"""Frames shown of a clip, side of a tile, space between tiles and height of a line of text, in pixels."""


def frames(path: Path) -> list[Image.Image]:
    """`FRAMES` frames of a video, evenly spread from the first to the last."""
    with av.open(str(path)) as container:
        shown = [frame.to_image() for frame in container.decode(video=0)]
    return [shown[i] for i in np.linspace(0, len(shown) - 1, FRAMES).round().astype(int)]


def main() -> None:
    """Write the sheet."""
    caption = (STORY / "caption.txt").read_text().strip()
    rows = [
        ("input", frames(INPUT)),
        (f"“{caption}”", [Image.open(STORY / "image.png")]),
        ("video", frames(STORY / "video.mp4")),
    ]
    width = FRAMES * (SIDE + GAP) + GAP
    sheet = Image.new("RGB", (width, len(rows) * (SIDE + LINE + GAP) + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for row, (text, pictures) in enumerate(rows):
        top = GAP + row * (SIDE + LINE + GAP)
        draw.text((GAP, top), text, fill="black", font=font)
        for column, picture in enumerate(pictures):
            tile = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.NEAREST)
            sheet.paste(tile, (GAP + column * (SIDE + GAP), top + LINE))
    SHEET.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(SHEET, optimize=True)
    print(f"wrote {SHEET.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
