"""The invisible mark: it is not seen, it is found again after what happens to pictures, and only there."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter
from tests.provenance.pictures import picture, psnr

from koma.provenance.mark import blocks, code, detect, embed, evidence, pattern, search
from koma.provenance.mark.blocks import Pixels
from koma.provenance.mark.payload import Payload

KEY, OTHER = pattern.of_key(b"k" * 32), pattern.of_key(b"o" * 32)
PAYLOAD = Payload(1, "0123456789")


def _marked(pixels: Pixels) -> Pixels:
    return embed.Marker(KEY, PAYLOAD).mark(pixels)


def _compressed(kind: str, quality: int) -> Callable[[Image.Image], Image.Image]:
    def compress(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, kind, quality=quality)
        return Image.open(file).convert("RGB")

    return compress


def _resized(factor: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.resize((round(image.width * factor), round(image.height * factor)))


def _framed(image: Image.Image) -> Image.Image:
    ground = Image.new("RGB", (image.width + 90, image.height + 61), "white")
    ground.paste(image, (37, 21))
    return ground


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "nothing": lambda image: image,
    "JPEG 95": _compressed("JPEG", 95),
    "JPEG 50": _compressed("JPEG", 50),
    "WebP 80": _compressed("WEBP", 80),
    "half the size": _resized(0.5),
    "twice the size": _resized(2),
    "a quarter of it": lambda image: image.crop((45, 61, 45 + image.width // 2, 61 + image.height // 2)),
    "a screenshot": _framed,
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "more contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.2),
    "a blur": lambda image: image.filter(ImageFilter.GaussianBlur(0.8)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_id_is_read_again_after(change: str) -> None:
    changed = CHANGES[change](Image.fromarray(_marked(picture(3))))
    reading = detect.detect([np.asarray(changed)], KEY)
    assert reading is not None
    assert reading.found
    assert reading.payload == PAYLOAD
    assert evidence.chance(reading.score) < evidence.FALSE_POSITIVES * (1 + 1e-9)


@pytest.mark.parametrize("shape", [(64, 64), (512, 512), (136, 203)])
def test_the_mark_is_not_seen(shape: tuple[int, int]) -> None:
    original = picture(5, *shape)
    assert psnr(original, _marked(original)) > 39.5


def test_flat_white_and_black_keep_their_mark() -> None:
    flat = np.zeros((64, 64, 3), np.uint8)
    flat[:, 32:] = 255
    reading = detect.detect([_marked(flat)], KEY, [search.in_place])
    assert reading is not None
    assert reading.payload == PAYLOAD
    assert reading.found


def test_nothing_is_found_without_a_mark_or_with_another_key() -> None:
    for pixels, key in (
        (picture(1), KEY),
        (_marked(picture(1)), OTHER),
        (np.zeros((96, 96, 3), np.uint8), KEY),
    ):
        reading = detect.detect([pixels], key)
        assert reading is not None
        assert not reading.found


def test_the_scores_of_unmarked_pictures_keep_below_their_bound() -> None:
    """For one fixed payload and place the bound is exp(−t² / 2); the share above it must not exceed that."""
    scores = []
    signs = 2.0 * code.encode(PAYLOAD.bits()) - 1.0
    for seed in range(500):
        key = pattern.of_key(seed.to_bytes(32, "big"))
        sums = next(search.in_place([blocks.luma(picture(seed % 25, 64, 64))]))
        values = -np.real(sums * np.exp(-2j * np.pi * key.turns.ravel()))
        scores.append((values @ key.membership @ signs)[0] / np.sqrt((np.abs(sums) ** 2).sum() / 2))
    for bound in (1.0, 2.0, 3.0):
        assert np.mean(np.array(scores) > bound) <= np.exp(-(bound**2) / 2)


def test_frames_vote() -> None:
    """One frame under heavy noise is not enough, and several are."""
    random = np.random.default_rng(2)
    marked = _marked(picture(4, 64, 64))
    noisy = [np.clip(marked + random.normal(0, 14, marked.shape), 0, 255).astype(np.uint8) for _ in range(16)]
    alone = detect.detect(noisy[:1], KEY, [search.in_place])
    together = detect.detect(noisy, KEY, [search.in_place])
    assert alone is not None
    assert together is not None
    assert not alone.found
    assert together.found
    assert together.payload == PAYLOAD


def test_what_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="too small"):
        _marked(picture(0, 24, 64))
    assert detect.detect([picture(0, 7, 64)], KEY) is None


def test_the_search_never_makes_more_guesses_than_the_bound_counts() -> None:
    for height, width in ((64, 64), (333, 500), (1080, 1920)):
        frame = np.zeros((height, width), np.float32)
        guesses = (
            1 + len(search.GAINS) + len(search.BLURS) + len(search._sizes(frame.shape)) + 1 + 2 * 64 * 64
        )
        assert guesses <= evidence.MAX_GUESSES
