"""Reads pictures within limits, as browsers show them: upright, in sRGB, on white."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from koma.errors import KomaError
from koma.models.media import limits, sniff, srgb
from koma.models.media.container import (
    BombError,
    Container,
    UnsupportedError,
    check_profile,
    open_jpeg,
    open_png,
)
from koma.runtime.runner import InputFile

warnings.filterwarnings("ignore", category=UserWarning, module="PIL")  # of what is damaged
# The bound here is MAX_IMAGE_PIXELS, which is checked between the header and the pixels.
Image.MAX_IMAGE_PIXELS = None

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_OPENERS = {"image/png": open_png, "image/jpeg": open_jpeg, "image/webp": Container, "image/avif": Container}
_DAMAGE = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError, SyntaxError,
    TypeError, ValueError, struct.error, zlib.error,
)  # fmt: skip
"""All that Pillow was seen to raise of damaged files."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as a model sees it."""

    pixels: Image.Image
    """RGB"""
    frames: int
    """More than one in an animation, of which ``pixels`` is the first."""

    @property
    def meta(self) -> Mapping[str, Any]:
        """What the answer tells of it: nothing, unless only a part of the file was used."""
        return {"frames": self.frames, "used": "the first"} if self.frames > 1 else {}


def read(file: InputFile, field: str) -> Picture:
    """Decode a picture.

    The number of pixels is taken from the header and checked before anything is decoded. Damaged optional
    parts are ignored. Of a truncated PNG or JPEG half must be there.

    Raises:
        KomaError: ``invalid_media``, ``unsupported_media`` or ``too_large``, naming ``field``, value and
        bound.
    """
    kind = sniff.check(file, field, sniff.IMAGE_TYPES, limits.MAX_IMAGE_BYTES)
    with _told(field, kind):
        container = _OPENERS[kind](file.path.read_bytes())
        _check_pixels(_size(container, kind), field)
        image, missing = _decoded(container, kind, field)
        pixels = srgb.on_white(image, container.profile)
        if missing is not None:
            pixels.paste("white", mask=missing)
        return Picture(_upright(pixels, container.exif), container.frames)


@contextmanager
def _told(field: str, kind: str) -> Iterator[None]:
    """Errors of the decoders as errors that can be told: they name paths of this machine, or only bytes."""
    name = sniff.NAMES[kind]
    try:
        yield
    except BombError as error:
        message = f"{field} is {name} that cannot be read: {error}"
        raise KomaError("too_large", message, field=field, value=error.value, bound=error.bound) from error
    except UnsupportedError as error:
        message = f"{field} is {error}, which is not read here; convert it to PNG"
        bound = ", ".join(sniff.IMAGE_TYPES)
        raise KomaError("unsupported_media", message, field=field, value=kind, bound=bound) from error
    except _DAMAGE as error:
        message = f"{field} is {name} that is damaged: it cannot be decoded"
        raise KomaError("invalid_media", message, field=field, value=kind) from error


def _size(container: Container, kind: str) -> tuple[int, int]:
    """Width and height by the header. A decoder of WebP makes room for the pixels as soon as it is opened."""
    data = container.data
    if kind != "image/webp":
        with _opened(data, kind) as image:
            return image.size
    if data[12:16] == b"VP8X":
        sides = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    elif data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        sides = ((bits >> at & 0x3FFF) + 1 for at in (0, 14))
    else:
        sides = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (26, 28))
    width, height = sides
    return width, height


def _check_pixels(size: tuple[int, int], field: str) -> None:
    pixels, bound = size[0] * size[1], limits.MAX_IMAGE_PIXELS
    if pixels > bound:
        message = (
            f"{field} has {limits.megapixels(pixels)} megapixels ({size[0]} × {size[1]}),"
            f" at most {limits.megapixels(bound)}"
        )
        raise KomaError("too_large", message, field=field, value=pixels, bound=bound)


def _opened(data: bytes, kind: str) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=[kind.removeprefix("image/")])


def _decoded(container: Container, kind: str, field: str) -> tuple[Image.Image, Image.Image | None]:
    """The pixels, and where a truncated file has none. What is told only by an open file is noted."""
    with _opened(container.data, kind) as image:
        _note(container, image)
        try:
            image.seek(container.first)
            image.load()
            return image.copy(), None
        except _DAMAGE:
            if kind not in ("image/png", "image/jpeg") or container.first:
                raise
    return _partial(container, kind, field)


def _note(container: Container, image: Image.Image) -> None:
    if image.format in ("WEBP", "AVIF"):
        container.frames = int(getattr(image, "n_frames", 1))
        container.exif = image.info.get("exif")
        container.profile = image.info.get("icc_profile")
        if container.profile is not None:
            check_profile(container.profile)


def _partial(container: Container, kind: str, field: str) -> tuple[Image.Image, Image.Image | None]:
    """A truncated picture. Decoded onto two different grounds, what is missing is where the two differ."""
    dark, bright = (_stopped(container.data, kind, level) for level in (0, 255))
    missing = np.not_equal(*(np.asarray(ground.getchannel(0)) for ground in (dark, bright)))
    share = 1 - float(missing.mean())
    if not container.coarse and share < limits.MIN_IMAGE_SHARE:
        bound = limits.MIN_IMAGE_SHARE
        message = f"{field} is truncated: {share:.0%} of the picture is there, at least {bound:.0%} is needed"
        raise KomaError("invalid_media", message, field=field, value=round(share, 3), bound=bound)
    if not container.ending:
        return dark, Image.fromarray(missing)
    with _opened(container.data + container.ending, kind) as image:
        image.load()
        return image.copy(), None


def _stopped(data: bytes, kind: str, level: int) -> Image.Image:
    """As much as can be decoded, onto a ground of one level."""
    with _opened(data, kind) as image:
        ground = Image.new(image.mode, image.size, level)
        ground.info, ground.palette = dict(image.info), image.palette
        image.im = ground.im  # into which the decoder writes
        with suppress(*_DAMAGE):
            image.load()
    return ground


def _upright(image: Image.Image, exif: bytes | None) -> Image.Image:
    turn = _UPRIGHT.get(_orientation(exif))
    return image if turn is None else image.transpose(turn)


def _orientation(exif: bytes | None) -> int:
    """Of damaged EXIF data nothing is taken."""
    if exif is None:
        return 1
    try:
        read = Image.Exif()
        read.load(exif)
        return int(read.get(_ORIENTATION, 1))
    except _DAMAGE:
        return 1
