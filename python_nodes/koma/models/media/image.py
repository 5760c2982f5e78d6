"""Reads pictures within limits."""

from __future__ import annotations

import warnings

from PIL import Image, ImageOps, UnidentifiedImageError

from koma.errors import KomaError
from koma.models.media import limits, sniff
from koma.runtime.runner import InputFile


def read(file: InputFile, field: str) -> Image.Image:
    """Decode a picture to RGB, upright; transparency becomes white.

    The number of pixels is taken from the header and checked before anything is decoded.

    Raises:
        KomaError: ``invalid_media``, ``unsupported_media`` or ``too_large``, naming ``field``, value and
        bound.
    """
    kind = sniff.check(file, field, sniff.IMAGE_TYPES, limits.MAX_IMAGE_BYTES)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(file.path, formats=[kind.removeprefix("image/")])
            _check_pixels(image, field)
            return _plain(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # Pillow names the file where it cannot even tell what it is: a path of this machine.
        reason = "its header is damaged" if isinstance(error, UnidentifiedImageError) else error
        raise KomaError(
            "invalid_media", f"{field}: cannot be decoded: {reason}", field=field, value=kind
        ) from error


def _check_pixels(image: Image.Image, field: str) -> None:
    pixels = image.width * image.height
    if pixels > limits.MAX_IMAGE_PIXELS:
        raise KomaError(
            "too_large",
            f"{field}: {image.width} x {image.height} pixels, at most {limits.MAX_IMAGE_PIXELS} in all",
            field=field,
            value=pixels,
            bound=limits.MAX_IMAGE_PIXELS,
        )


def _plain(image: Image.Image) -> Image.Image:
    upright = ImageOps.exif_transpose(image)
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    layered = upright.convert("RGBA")
    white = Image.new("RGBA", layered.size, "white")
    return Image.alpha_composite(white, layered).convert("RGB")
