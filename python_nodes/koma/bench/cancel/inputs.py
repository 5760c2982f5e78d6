"""What the cancelled jobs look at."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from koma.models.media import encode
from koma.port.messages import InputRef

WIDTH, HEIGHT, FRAMES, FPS = 1280, 720, 300, 30


def clip(folder: Path) -> InputRef:
    """A clip that takes about a second to decode: a window that moves over noise."""
    noise = np.random.default_rng(0).integers(0, 16, (HEIGHT, WIDTH + FRAMES, 3), dtype=np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(noise, WIDTH, axis=1)
    return _input(encode.write_mp4(folder, np.moveaxis(windows, (1, 3), (0, 2))[:FRAMES], FPS), "video/mp4")


def picture(folder: Path) -> InputRef:
    """A picture of two megapixels."""
    path = encode.fresh_path(folder, ".png")
    Image.effect_noise((1920, 1080), 80).convert("RGB").save(path)
    return _input(path, "image/png")


def _input(path: Path, media_type: str) -> InputRef:
    data = path.read_bytes()
    return InputRef(str(path), hashlib.sha256(data).hexdigest(), media_type, len(data))
