"""Files of pictures for tests, made chunk by chunk where Pillow would not write them so."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms

from koma.errors import KomaError
from koma.models.media import image
from koma.runtime.runner import InputFile

FIELD = "inputs.image"
CASES = Path(__file__).parent / "cases"
START = b"\x89PNG\r\n\x1a\n"
FOUR = [(220, 30, 30), (30, 200, 40), (20, 40, 210), (220, 220, 30)]


def input_file(path: Path) -> InputFile:
    """The file as a model node is given it."""
    data = path.read_bytes()
    return InputFile(path, hashlib.sha256(data).hexdigest(), "image/png", len(data))


def read(folder: Path, data: bytes) -> image.Picture:
    """Read bytes as a picture."""
    path = folder / "picture"
    path.write_bytes(data)
    return image.read(input_file(path), FIELD)


def refusal(work: Callable[[], object]) -> KomaError:
    """The error of ``work``: it names the field, and neither a path nor a class of a library."""
    with pytest.raises(KomaError) as refused:
        work()
    error = refused.value
    assert error.field == FIELD
    assert error.message.startswith(FIELD)
    assert not any(word in error.message for word in ("/tmp", "Error", "<_io", "0x", "e+0"))
    return error


def png(width: int, height: int, depth: int, colours: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG of unpacked rows, each with its filter byte; ``extra`` chunks come before the pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    return b"".join(
        [START, chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    )


def chunk(kind: bytes, body: bytes, *, damaged: bool = False) -> bytes:
    """A chunk of a PNG, with a wrong checksum where it is ``damaged``."""
    checksum = zlib.crc32(kind + body) ^ damaged
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def with_chunks(data: bytes, *chunks: bytes) -> bytes:
    """A PNG with further chunks behind its header."""
    return data[:33] + b"".join(chunks) + data[33:]


def four_fields(mode: str = "RGB", side: int = 64) -> Image.Image:
    """Four fields of different colours."""
    picture = Image.new("RGB", (side, side))
    half = side // 2
    for number, colour in enumerate(FOUR):
        picture.paste(colour, (number % 2 * half, number // 2 * half, number % 2 * half + half, side))
    return picture.convert(mode)


def corners(picture: Image.Image) -> list[Any]:
    """The middles of the four fields."""
    width, height = picture.size
    places = [(1, 1), (3, 1), (1, 3), (3, 3)]
    return [picture.getpixel((x * width // 4, y * height // 4)) for x, y in places]


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """The picture as a file."""
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


def profile(name: str) -> bytes:
    """A profile that lcms makes: ``sRGB``, ``LAB`` or ``XYZ``."""
    made = ImageCms.createProfile(name)  # type: ignore[arg-type]
    return ImageCms.ImageCmsProfile(made).tobytes()
