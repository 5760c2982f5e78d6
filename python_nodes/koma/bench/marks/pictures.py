"""Pictures to mark: crops of the public photos that come with scikit-image, and scenes of Emoji World."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from koma.cli.server_process import home
from koma.provenance.mark.blocks import Pixels
from koma.training.world.render import Renderer
from koma.training.world.scene import sample_batch

PHOTOS = (
    "astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png",
    "hubble_deep_field.jpg", "retina.jpg", "ihc.png", "camera.png", "grass.png", "gravel.png", "brick.png",
    "coins.png", "moon.png", "page.png", "clock_motion.png", "logo.png",
)  # fmt: skip
"""Examples of scikit-image with 200 pixels and more: people, animals, sky, texture, text, a drawing."""


def folder() -> Path:
    """Return the folder of the photos, which ``scripts/setup.sh bench`` installs."""
    found = next((home() / ".venv-bench").glob("lib/python*/site-packages/skimage/data"), None)
    if found is None:
        raise FileNotFoundError("the photos are not there: scripts/setup.sh bench installs them")
    return found


def crops(random: np.random.Generator, side: int) -> Iterator[Pixels]:
    """Yield crops of ``side`` by ``side`` pixels for ever, from one photo after another; a photo that is too
    small is enlarged."""
    while True:
        for name in PHOTOS:
            image = _photo(folder() / name)
            shorter = min(image.size)
            part = int(random.integers(min(side, shorter), shorter + 1))
            left = int(random.integers(0, image.width - part + 1))
            top = int(random.integers(0, image.height - part + 1))
            cut = image.crop((left, top, left + part, top + part))
            yield np.asarray(cut.resize((side, side), Image.Resampling.LANCZOS))


def scenes(seed: int, count: int, side: int) -> Pixels:
    """Return scenes of Emoji World [count, side, side, 3], as the checkpoints that ship make them."""
    made = Renderer(side).images(sample_batch(count, seed, medium="image"))
    return made.permute(0, 2, 3, 1).contiguous().numpy()


@cache
def _photo(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB")
