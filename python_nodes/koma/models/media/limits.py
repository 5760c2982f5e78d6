"""What an input may cost before it is refused. Each bound has its reason; tests stand on both sides of it."""

from __future__ import annotations

from koma.errors import KomaError

MAX_IMAGE_BYTES = 64 << 20
"""A 40-megapixel PNG of a photograph."""
MAX_IMAGE_PIXELS = 40_000_000
"""8K video frames are 33 million; 40 million RGB pixels are 120 MB once decoded."""
MAX_IMAGE_PARTS = 100_000
"""Chunks of a PNG, segments of a JPEG; a large PNG has some ten thousand."""
MAX_IMAGE_SCANS = 100
"""Passes over the pixels of one progressive JPEG; encoders make about ten, and each takes its time."""
MAX_PROFILE_BYTES = 4 << 20
"""A colour profile once it is unpacked; the largest of printing presses have 3 MB."""
MIN_IMAGE_SHARE = 0.5
"""Of a truncated picture this much must be there: of less a model would describe what fills the rest."""
MAX_VIDEO_BYTES = 512 << 20
"""The largest upload that the server takes by default; ten minutes at 7 Mbit/s."""
MAX_VIDEO_SECONDS = 600.0
"""The models read at most some tens of frames; beyond ten minutes these lie too far apart to mean
anything."""
MAX_VIDEO_FRAMES = 36_000
"""600 seconds at 60 frames a second: the work of counting and decoding is bounded by this."""
MAX_VIDEO_PIXELS = 4096 * 2304
"""One frame in cinema 4K."""
MAX_DECODED_PIXELS = MAX_VIDEO_FRAMES * 1920 * 1080
"""The pixels of all frames that have to be decoded to get the chosen ones. Ten minutes of Full HD at 60
frames a second stay below it even where every frame has to be decoded, which takes a core some two minutes.
Without it a file of 320 kB that repeats a picture in cinema 4K would take four times as long."""
MAX_FRAME_EDGE = 1024
"""Decoded frames are shrunk to this longest edge: the models see 512 pixels or fewer."""


def at_most(value: float, bound: float, unit: str, field: str) -> None:
    """Refuse ``value`` above ``bound``.

    Raises:
        KomaError: ``too_large``, with numbers that people read: "33 megapixels a frame, at most 9.4".
    """
    if value <= bound:
        return
    shown, most = _compared(value, bound, unit)
    raise KomaError(
        "too_large", f"{field}: {shown}, at most {most}", field=field, value=round(value, 3), bound=bound
    )


def mebibytes(size: int) -> str:
    """Return a number of bytes as a sentence tells it."""
    return f"{size / (1 << 20):,.1f} MiB" if size >= 1 << 20 else f"{size:,} bytes"


def megapixels(pixels: float) -> str:
    """``pixels`` in millions: two digits, or whole numbers where there are more."""
    millions = pixels / 1e6
    return f"{millions:,.0f}" if millions >= 10 else f"{millions:.2g}"


def _compared(value: float, bound: float, unit: str) -> tuple[str, str]:
    """Both numbers in words, exact where they would look alike otherwise."""
    if unit.startswith("pixels") and bound >= 1e6 and megapixels(value) != megapixels(bound):
        return f"{megapixels(value)} mega{unit}", megapixels(bound)
    return f"{_exact(value)} {unit}", _exact(bound)


def _exact(number: float) -> str:
    return f"{round(number, 3):,}".removesuffix(".0")
