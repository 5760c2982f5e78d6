"""What happens to pictures and clips on their way through the world."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

import av
import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from koma.provenance.mark.blocks import Pixels

Change = Callable[[Pixels, np.random.Generator], Pixels]


def _pillow(change: Callable[[Image.Image], Image.Image]) -> Change:
    return lambda pixels, _random: np.asarray(change(Image.fromarray(pixels)).convert("RGB"))


def _compressed(kind: str, quality: int) -> Change:
    def compress(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, kind, quality=quality)
        return Image.open(file)

    return _pillow(compress)


def _resized(factor: float) -> Change:
    def resize(image: Image.Image) -> Image.Image:
        size = (round(image.width * factor), round(image.height * factor))
        return image.resize(size, Image.Resampling.BICUBIC)

    return _pillow(resize)


def _cut(share: float) -> Change:
    """Keep ``share`` of each side, at a random place."""

    def cut(pixels: Pixels, random: np.random.Generator) -> Pixels:
        height, width = (int(side * share) for side in pixels.shape[:2])
        top = int(random.integers(0, pixels.shape[0] - height + 1))
        left = int(random.integers(0, pixels.shape[1] - width + 1))
        return pixels[top : top + height, left : left + width]

    return cut


def _cut_and_resized(pixels: Pixels, random: np.random.Generator) -> Pixels:
    side = pixels.shape[:2]
    cut = Image.fromarray(_cut(0.8)(pixels, random))
    return np.asarray(cut.resize((side[1], side[0]), Image.Resampling.BICUBIC))


def _screenshot(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """Put the picture on a plain ground, each side a random part larger."""
    height, width = pixels.shape[:2]
    top, left, below, right = random.integers(5, 90, 4)
    ground = np.full((top + height + below, left + width + right, 3), random.integers(0, 256, 3), np.uint8)
    ground[top : top + height, left : left + width] = pixels
    return ground


def _noise(deviation: float) -> Change:
    def noise(pixels: Pixels, random: np.random.Generator) -> Pixels:
        return np.clip(np.rint(pixels + random.normal(0, deviation, pixels.shape)), 0, 255).astype(np.uint8)

    return noise


PICTURES: Mapping[str, Change] = {
    "nothing": lambda pixels, _random: pixels,
    "JPEG 95": _compressed("JPEG", 95),
    "JPEG 75": _compressed("JPEG", 75),
    "JPEG 50": _compressed("JPEG", 50),
    "WebP 90": _compressed("WEBP", 90),
    "WebP 80": _compressed("WEBP", 80),
    "WebP 50": _compressed("WEBP", 50),
    "resize × 0.5": _resized(0.5),
    "resize × 0.75": _resized(0.75),
    "resize × 1.5": _resized(1.5),
    "resize × 2": _resized(2.0),
    "cut to 3/4 of each side": _cut(0.75),
    "cut to 1/2 of each side": _cut(0.5),
    "screenshot with a border": _screenshot,
    "brightness − 20 %": _pillow(lambda image: ImageEnhance.Brightness(image).enhance(0.8)),
    "brightness + 20 %": _pillow(lambda image: ImageEnhance.Brightness(image).enhance(1.2)),
    "contrast − 20 %": _pillow(lambda image: ImageEnhance.Contrast(image).enhance(0.8)),
    "contrast + 20 %": _pillow(lambda image: ImageEnhance.Contrast(image).enhance(1.2)),
    "Gaussian blur, 0.7 px": _pillow(lambda image: image.filter(ImageFilter.GaussianBlur(0.7))),
    "Gaussian blur, 1 px": _pillow(lambda image: image.filter(ImageFilter.GaussianBlur(1.0))),
    "noise, deviation 5": _noise(5.0),
    "noise, deviation 10": _noise(10.0),
    "cut to 4/5 and resized back": _cut_and_resized,
    "rotated by 2°": _pillow(lambda image: image.rotate(2, Image.Resampling.BICUBIC)),
    "mirrored": lambda pixels, _random: pixels[:, ::-1],
}


def film(frames: Sequence[Pixels], crf: int) -> list[Pixels]:
    """Encode a clip as H.264 with this quality and decode it again."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(12), options={"crf": str(crf)})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for pixels in frames:
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24"))
            )
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
