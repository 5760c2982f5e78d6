"""Decoded pictures of any kind to 8 bits of sRGB on white."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK"}
"""The space that a profile must be of to fit pixels of a mode."""
_EIGHT_BITS = np.rint(np.arange(1 << 16) / 257).astype(np.uint8)


def on_white(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return ``image`` as sRGB, on white where it is transparent; a profile that does not fit is ignored."""
    colours, alpha = _parts(image)
    converted = _converted(colours, profile) if profile else colours
    plain = converted.convert("RGB")
    if alpha is None:
        return plain
    white = Image.new("RGB", plain.size, "white")
    white.paste(plain, mask=alpha)
    return white


def _parts(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours, in a mode of 8 bits that a profile may be of, and how opaque they are."""
    if image.mode.startswith("I"):
        return _deep(image)
    if image.has_transparency_data:
        grey = image.mode in ("L", "LA", "La", "1")
        layered = image.convert("RGBA").convert("LA") if grey else image.convert("RGBA")
        *colours, alpha = layered.split()
        return (colours[0] if grey else Image.merge("RGB", colours)), alpha
    if image.mode == "1":
        return image.convert("L"), None
    return (image if image.mode in _SPACES else image.convert("RGB")), None


def _deep(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Grey of 16 bits, one level of which may be transparent."""
    values = np.clip(np.asarray(image), 0, 0xFFFF)
    grey = Image.fromarray(_EIGHT_BITS[values])
    clear = image.info.get("transparency")
    if not isinstance(clear, int):
        return grey, None
    return grey, Image.fromarray(np.where(values == clear, np.uint8(0), np.uint8(255)))


def _converted(colours: Image.Image, profile: bytes) -> Image.Image:
    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if given.profile.xcolor_space != _SPACES[colours.mode]:
            return colours
        converted = ImageCms.profileToProfile(
            colours, given, _SRGB, ImageCms.Intent.PERCEPTUAL, outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return colours
    return colours if converted is None else converted
