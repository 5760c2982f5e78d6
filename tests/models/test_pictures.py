"""Pictures: what is read equals what a browser shows."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFilter
from tests.models.picture_files import (
    CASES,
    FOUR,
    chunk,
    corners,
    four_fields,
    input_file,
    png,
    profile,
    read,
    refusal,
    saved,
    with_chunks,
)

from koma.models.media import image, limits

WHITE = (255, 255, 255)


def _near(found: list[Any], right: list[Any], most: int = 2) -> bool:
    return bool(np.abs(np.array(found, dtype=int) - np.array(right)).max() <= most)


def _display_p3() -> bytes:
    return bytes(Image.open(CASES / "icc_p3.png").info["icc_profile"])


def _grey_profile(gamma: float) -> bytes:
    """A grey ICC profile of one exponent, written out by hand: lcms makes none through Pillow."""
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"grey\0" + bytes(79)
    bodies = [(b"desc", text), (b"wtpt", white), (b"kTRC", curve)]
    table, data, at = struct.pack(">I", len(bodies)), b"", 128 + 4 + 12 * len(bodies)
    for name, body in bodies:
        padded = body + bytes(-len(body) % 4)
        table += name + struct.pack(">II", at + len(data), len(body))
        data += padded
    header = struct.pack(">I4sI4s4s4s", 0, b"\0" * 4, 0x02400000, b"mntr", b"GRAY", b"XYZ ") + bytes(12)
    header += b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    header = header.ljust(128, b"\0") + table + data
    return struct.pack(">I", len(header)) + header[4:]


# 16 bits


def test_sixteen_bits_of_grey_are_read_as_their_upper_eight() -> None:
    assert _marks(_case("gray16.png")) == [(level,) * 3 for level in (87, 130, 52, 198)]


def _case(name: str) -> Image.Image:
    return image.read(input_file(CASES / name), "inputs.image").pixels


def _marks(picture: Image.Image) -> list[Any]:
    """The colours of the four marks in the corners of the test picture."""
    return [picture.getpixel(place) for place in ((40, 30), (280, 30), (40, 210), (280, 210))]


@pytest.mark.parametrize("colours", [2, 6])
def test_sixteen_bits_of_colour_are_read_as_their_upper_eight(tmp_path: Path, colours: int) -> None:
    sample = struct.pack(">3H", 220 * 257, 30 * 257, 40 * 257) + (b"\xff\xff" if colours == 6 else b"")
    data = png(4, 4, 16, colours, (b"\0" + sample * 4) * 4)
    assert read(tmp_path, data).pixels.getpixel((2, 2)) == (220, 30, 40)


def test_transparent_grey_of_sixteen_bits_is_on_white(tmp_path: Path) -> None:
    row = b"\0" + struct.pack(">4H", 1000, 1001, 30000, 65535)
    data = png(4, 1, 16, 0, row, chunk(b"tRNS", struct.pack(">H", 1000)))
    found = [read(tmp_path, data).pixels.getpixel((x, 0))[0] for x in range(4)]  # type: ignore[index]
    assert found == [255, 4, 117, 255]
    half = png(1, 1, 16, 4, b"\0" + struct.pack(">2H", 0, 0x8000))
    assert _near([read(tmp_path, half).pixels.getpixel((0, 0))], [(127, 127, 127)])


@pytest.mark.parametrize(("depth", "clear", "packed"), [(1, 1, 0b01000000), (2, 1, 0b01000000), (4, 5, 0x50)])
def test_a_transparent_level_of_few_bits_is_on_white(
    tmp_path: Path, depth: int, clear: int, packed: int
) -> None:
    width = 8 // depth
    data = png(width, 1, depth, 0, bytes([0, packed]), chunk(b"tRNS", struct.pack(">H", clear)))
    row = [read(tmp_path, data).pixels.getpixel((x, 0)) for x in range(width)]
    clear_at = {1: 1, 2: 0, 4: 0}[depth]
    assert row[clear_at] == WHITE
    assert all(pixel == (0, 0, 0) for at, pixel in enumerate(row) if at != clear_at)


# Transparency


def test_palettes_and_grey_with_transparency_are_on_white(tmp_path: Path) -> None:
    palette = four_fields().quantize(4)
    clear = palette.getpixel((0, 0))
    found = read(tmp_path, saved(palette, "PNG", transparency=clear)).pixels
    assert corners(found)[0] == WHITE
    assert _near(corners(found)[1:], FOUR[1:], 4)
    alphas = bytes([0, 128, 255, 255])
    shown = read(tmp_path, saved(palette, "PNG", transparency=alphas)).pixels
    assert shown.mode == "RGB"
    layered = Image.merge("LA", (Image.new("L", (8, 8), 100), Image.new("L", (8, 8), 0)))
    assert read(tmp_path, saved(layered, "PNG")).pixels.getpixel((4, 4)) == WHITE


# Colour


def test_a_display_p3_picture_is_converted_to_srgb() -> None:
    assert _near(_marks(_case("icc_p3.png"))[:1], [(241, 0, 0)])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_a_profile_counts_in_every_kind_of_picture(tmp_path: Path, kind: str) -> None:
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {"quality": 100}
    flat = Image.new("RGB", (64, 64), (220, 30, 30))
    data = saved(flat, kind, icc_profile=_display_p3(), **options)
    assert _near([read(tmp_path, data).pixels.getpixel((32, 32))], [(241, 0, 0)], 5)
    clear = (
        saved(flat.convert("RGBA"), kind, icc_profile=_display_p3(), **options) if kind != "JPEG" else data
    )
    assert _near([read(tmp_path, clear).pixels.getpixel((32, 32))], [(241, 0, 0)], 5)


def test_an_srgb_profile_changes_nothing(tmp_path: Path) -> None:
    colours = four_fields().filter(ImageFilter.GaussianBlur(9))
    found = read(tmp_path, saved(colours, "PNG", icc_profile=profile("sRGB"))).pixels
    assert np.abs(np.asarray(found, dtype=int) - np.asarray(colours)).max() <= 1


def test_a_profile_of_grey_counts_for_grey_alone(tmp_path: Path) -> None:
    linear = _grey_profile(1.0)
    assert ImageCms.ImageCmsProfile(io.BytesIO(linear)).profile.xcolor_space == "GRAY"
    grey = Image.new("L", (8, 8), 55)  # a fifth of the light, of which sRGB makes 127
    assert _near(
        [read(tmp_path, saved(grey, "PNG", icc_profile=linear)).pixels.getpixel((4, 4))], [(127,) * 3]
    )
    assert _near([read(tmp_path, saved(grey, "PNG")).pixels.getpixel((4, 4))], [(55,) * 3], 0)
    assert _near(
        [read(tmp_path, saved(grey.convert("RGB"), "PNG", icc_profile=linear)).pixels.getpixel((4, 4))],
        [(55,) * 3],
        0,
    )


@pytest.mark.parametrize("wrong", ["LAB", "XYZ", "junk", "cut", "of another mode"])
def test_a_profile_that_is_broken_or_does_not_fit_is_ignored(tmp_path: Path, wrong: str) -> None:
    bad = {
        "LAB": profile("LAB"),
        "XYZ": profile("XYZ"),
        "junk": b"junk" * 100,
        "cut": _display_p3()[:200],
        "of another mode": _grey_profile(1.0),
    }[wrong]
    for kind in ("PNG", "JPEG", "WEBP"):
        found = read(tmp_path, saved(four_fields(), kind, icc_profile=bad)).pixels
        assert np.array_equal(
            np.asarray(found), np.asarray(read(tmp_path, saved(four_fields(), kind)).pixels)
        )


def test_a_jpeg_of_printing_inks_is_read_with_and_without_a_profile(tmp_path: Path) -> None:
    inks = Image.new("CMYK", (32, 32), (0, 200, 200, 20))
    plain = read(tmp_path, saved(inks, "JPEG", quality=95)).pixels.getpixel((16, 16))
    assert _near([plain], [(235, 51, 51)], 12)
    wrong = read(tmp_path, saved(inks, "JPEG", quality=95, icc_profile=_display_p3())).pixels
    assert wrong.getpixel((16, 16)) == plain


# Damaged optional parts


@pytest.mark.parametrize("name", ["exif_junk.png", "badcrc_anc.png", "noeoi.jpg", "photo.jfif"])
def test_damaged_optional_parts_are_ignored(name: str) -> None:
    assert _near(_marks(_case(name)), [(220, 30, 30), (30, 200, 30), (30, 30, 220), (220, 220, 30)], 2)


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"gAMA", b"\0"),
        chunk(b"pHYs", b"1"),
        chunk(b"tEXt", b"no separator"),
        chunk(b"tEXt", b"a\0b", damaged=True),
        chunk(b"iTXt", b"\0"),
        chunk(b"zTXt", b"a\0\0not zlib"),
        chunk(b"iCCP", b"p\0\0not zlib"),
        chunk(b"iCCP", b"p\0\0" + zlib.compress(b"x"), damaged=True),
        chunk(b"eXIf", b"MM\0*\0\0\0\x08\xff\xff"),
        chunk(b"sBIT", b""),
        chunk(b"cHRM", b"123"),
        chunk(b"acTL", b"\0"),
        chunk(b"fcTL", b""),
        chunk(b"xyzz", b"private"),
        chunk(b"tIME", b"12345678", damaged=True),
        chunk(b"zTXt", b"bomb\0\0" + zlib.compress(bytes(8 << 20), 9)),
        chunk(b"iTXt", b"bomb\0\x01\0\0\0" + zlib.compress(bytes(8 << 20), 9)),
    ],
    ids=lambda extra: extra[4:8].decode(),
)
def test_a_png_is_read_whatever_is_wrong_with_its_optional_chunks(tmp_path: Path, extra: bytes) -> None:
    whole = saved(four_fields(), "PNG")
    assert corners(read(tmp_path, with_chunks(whole, extra)).pixels) == FOUR


@pytest.mark.parametrize(
    "segment", [b"Exif\0\0junk", b"ICC_PROFILE\0\x01\x02half", b"JFIF\0", b"MPF\0MM\0*", b""]
)
@pytest.mark.parametrize("marker", [0xE0, 0xE1, 0xE2, 0xEE, 0xFE])
def test_a_jpeg_is_read_whatever_is_wrong_with_its_optional_segments(
    tmp_path: Path, marker: int, segment: bytes
) -> None:
    whole = saved(four_fields(), "JPEG", quality=95)
    added = bytes([0xFF, marker]) + struct.pack(">H", len(segment) + 2) + segment
    found = read(tmp_path, whole[:2] + added + whole[2:] + b"\xff\xd8 another file follows").pixels
    assert _near(corners(found), FOUR, 4)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_eight_orientations_are_read_upright(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = read(tmp_path, saved(four_fields(), kind, exif=exif, quality=95)).pixels
    a, b, c, d = range(4)
    shown = {
        1: (a, b, c, d), 2: (b, a, d, c), 3: (d, c, b, a), 4: (c, d, a, b),
        5: (a, c, b, d), 6: (c, a, d, b), 7: (d, b, c, a), 8: (b, d, a, c),
    }[orientation]  # fmt: skip
    assert _near(corners(found), [FOUR[field] for field in shown], 12)


# Truncated


def test_a_truncated_jpeg_is_read_if_half_of_it_is_there(tmp_path: Path) -> None:
    noise = Image.effect_noise((256, 256), 60).convert("RGB")
    for options in ({}, {"progressive": True}):
        whole = saved(noise, "JPEG", quality=90, **options)
        for lost in (1, 2, 3, 40):
            assert read(tmp_path, whole[:-lost]).pixels.size == (256, 256)
        for kept in (200, 700):
            assert refusal(lambda: read(tmp_path, whole[:kept])).code == "invalid_media"  # noqa: B023
    whole = saved(noise, "JPEG", quality=90)
    upper = np.asarray(read(tmp_path, whole[: len(whole) * 3 // 4]).pixels)[:128]
    assert np.array_equal(upper, np.asarray(read(tmp_path, whole).pixels)[:128])
    error = refusal(lambda: read(tmp_path, whole[: len(whole) // 4]))
    assert error.bound == limits.MIN_IMAGE_SHARE
    assert "at least 50%" in error.message


def test_a_truncated_png_is_read_if_half_of_it_is_there_and_the_rest_is_white(tmp_path: Path) -> None:
    noise = np.random.default_rng(3).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    whole = saved(Image.fromarray(noise), "PNG")
    assert np.array_equal(np.asarray(read(tmp_path, whole[:-12]).pixels), noise), (
        "only the end mark is missing"
    )
    found = np.asarray(read(tmp_path, whole[: len(whole) * 3 // 4]).pixels)
    assert np.array_equal(found[:40], noise[:40])
    assert (found[56:] == 255).all()
    assert refusal(lambda: read(tmp_path, whole[: len(whole) // 4])).code == "invalid_media"


# Bombs


def _webp_of(width: int, height: int) -> bytes:
    body = b"VP8X" + struct.pack("<I", 10) + bytes(4)
    body += (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _jpeg_of(width: int, height: int) -> bytes:
    data = bytearray(saved(four_fields(), "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">2H", height, width)
    return bytes(data)


def test_a_bomb_is_refused_by_its_header_in_numbers_for_people(tmp_path: Path) -> None:
    bombs = [
        png(30_000, 30_000, 8, 0, b""),
        png(65_000, 65_000, 1, 0, b""),
        _jpeg_of(30_000, 30_000),
        _webp_of(16_384, 16_384),
        b"RIFF\x1e\0\0\0WEBPVP8L" + struct.pack("<IBI", 18, 0x2F, 0x0FFFFFFF) + bytes(9),
    ]
    for data in bombs:
        error = refusal(lambda: read(tmp_path, data))  # noqa: B023
        assert error.code == "too_large"
        assert error.bound == 40_000_000
        assert "megapixels" in error.message
        assert "at most 40" in error.message


def test_a_colour_profile_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    bomb = chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(30 << 20), 9))
    error = refusal(lambda: read(tmp_path, with_chunks(saved(four_fields(), "PNG"), bomb)))
    assert (error.code, error.bound) == ("too_large", limits.MAX_PROFILE_BYTES)
    assert "4.0 MiB" in error.message


def test_a_jpeg_that_passes_over_its_pixels_again_and_again_is_refused(tmp_path: Path) -> None:
    whole = saved(four_fields(), "JPEG", progressive=True)
    scan = whole.rindex(b"\xff\xda")
    bomb = whole[:scan] + whole[scan:-2] * 200 + whole[-2:]
    error = refusal(lambda: read(tmp_path, bomb))
    assert (error.code, error.bound) == ("too_large", limits.MAX_IMAGE_SCANS)


def test_a_picture_of_countless_parts_is_refused(tmp_path: Path) -> None:
    bomb = with_chunks(saved(four_fields(), "PNG"), chunk(b"tEXt", b"") * (limits.MAX_IMAGE_PARTS + 1))
    assert refusal(lambda: read(tmp_path, bomb)).code == "too_large"


# Animations and other kinds


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF"])
def test_of_an_animation_the_first_frame_is_used_and_the_answer_says_so(tmp_path: Path, kind: str) -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in FOUR[:3]]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
    picture = read(tmp_path, data)
    assert _near([picture.pixels.getpixel((32, 32))], FOUR[:1], 6)
    assert picture.meta == {"frames": 3, "used": "the first"}
    assert read(tmp_path, saved(frames[0], kind)).meta == {}


def test_the_first_frame_of_an_animation_may_not_be_the_picture_for_old_programs(tmp_path: Path) -> None:
    still, *frames = [Image.new("RGB", (64, 64), colour) for colour in FOUR[:3]]
    data = saved(still, "PNG", save_all=True, append_images=frames, default_image=True, duration=100)
    picture = read(tmp_path, data)
    assert picture.pixels.getpixel((32, 32)) == FOUR[1]
    assert picture.frames == 2


def test_avif_is_read_and_heic_is_refused_by_its_name(tmp_path: Path) -> None:
    assert _near(corners(read(tmp_path, saved(four_fields(), "AVIF", quality=95)).pixels), FOUR, 8)
    error = refusal(lambda: image.read(input_file(CASES / "photo.heic"), "inputs.image"))
    assert (error.code, error.value) == ("unsupported_media", "image/heic")
    assert "is a HEIC picture; convert it to PNG, JPEG" in error.message


@pytest.mark.parametrize(("at", "value"), [(1, 0xC3), (1, 0xC9), (4, 12)])
def test_kinds_of_jpeg_that_no_decoder_here_reads_are_refused_as_such(
    tmp_path: Path, at: int, value: int
) -> None:
    data = bytearray(saved(four_fields(), "JPEG"))
    data[data.index(b"\xff\xc0") + at] = value
    error = refusal(lambda: read(tmp_path, bytes(data)))
    assert error.code == "unsupported_media"
    assert "convert it to PNG" in error.message
