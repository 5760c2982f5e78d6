"""Media: what is read, what is refused and with which words, what is written."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from koma.errors import KomaError
from koma.models.media import encode, image, limits, sniff, video
from koma.runtime.runner import InputFile

Write = Callable[[str, bytes], InputFile]
TYPES = {".mp4": "video/mp4", ".mov": "video/quicktime", ".webm": "video/webm", ".gif": "image/gif"}
FIELD = "inputs.video"
HEADS = Path(__file__).parents[2] / "test/media/heads.json"


def _input(path: Path, media_type: str = "") -> InputFile:
    data = path.read_bytes()
    kind = media_type or TYPES.get(path.suffix, "image/png")
    return InputFile(path, hashlib.sha256(data).hexdigest(), kind, len(data))


def _written(path: Path, data: bytes) -> InputFile:
    path.write_bytes(data)
    return _input(path)


def _stamped_video(path: Path, seconds: list[int], codec: str = "libx264", size: int = 64) -> InputFile:
    """A video whose frames, grey levels 0, 40, 80, ..., are shown at the given seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(25))
        stream.width = stream.height = size
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, second in enumerate(seconds):
            pixels = np.full((size, size, 3), 40 * number % 256, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = second * 1000, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return _input(path)


def _noise(frames: int, side: int = 64) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(1).integers(0, 255, (frames, side, side, 3), dtype=np.uint8)


def _refusal(read: Callable[[], object]) -> KomaError:
    with pytest.raises(KomaError) as refused:
        read()
    assert refused.value.field == FIELD
    assert FIELD in refused.value.message
    assert "tmp" not in refused.value.message, "no path of this machine"
    return refused.value


def test_every_golden_head_is_told_as_the_gateway_tells_it() -> None:
    golden = json.loads(HEADS.read_text())
    for head in golden["heads"]:
        start = bytes.fromhex(head["head"])
        assert (head["file"], sniff.media_type(start)) == (head["file"], head["media_type"])
    assert golden["names"] == sniff.NAMES


def test_an_empty_mp4_is_refused(tmp_path: Path) -> None:
    error = _refusal(lambda: video.probe(_written(tmp_path / "empty.mp4", b""), FIELD))
    assert (error.code, error.value, error.bound) == ("invalid_media", 0, "at least 1 byte")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_truncated_mp4_with_its_index_in_front_is_refused_with_the_frames_that_are_there(
    tmp_path: Path, kept: float
) -> None:
    data = encode.write_mp4(tmp_path, _noise(24), 8).read_bytes()
    cut = data.index(b"mdat") + int(kept * (len(data) - data.index(b"mdat")))
    error = _refusal(lambda: video.probe(_written(tmp_path / "cut.mp4", data[:cut]), FIELD))
    assert (error.code, error.bound) == ("invalid_media", 24)
    assert error.value < 24


def test_a_truncated_mp4_with_its_index_at_the_end_is_refused(tmp_path: Path) -> None:
    whole = _stamped_video(tmp_path / "whole.mp4", [0, 1, 2]).path.read_bytes()
    error = _refusal(lambda: video.probe(_written(tmp_path / "cut.mp4", whole[: len(whole) // 2]), FIELD))
    assert error.code == "invalid_media"


def test_noise_after_the_first_bytes_of_an_mp4_is_refused(tmp_path: Path) -> None:
    data = encode.write_mp4(tmp_path, _noise(3), 8).read_bytes()
    noise = np.random.default_rng(2).bytes(len(data))
    error = _refusal(lambda: video.probe(_written(tmp_path / "noise.mp4", data[:32] + noise), FIELD))
    assert error.code == "invalid_media"


def test_a_png_named_mp4_is_refused_by_its_true_type(tmp_path: Path) -> None:
    data = encode.write_png(tmp_path, _noise(1)[0]).read_bytes()
    error = _refusal(lambda: video.probe(_written(tmp_path / "picture.mp4", data), FIELD))
    assert (error.code, error.value) == ("unsupported_media", "image/png")
    assert "video/mp4" in error.bound


def test_an_mp4_given_as_image_is_refused_by_its_true_type(tmp_path: Path) -> None:
    file = _input(encode.write_mp4(tmp_path, _noise(2), 8), "image/png")
    error = _refusal(lambda: image.read(file, FIELD))
    assert (error.code, error.value) == ("unsupported_media", "video/mp4")


def test_text_given_as_video_is_refused(tmp_path: Path) -> None:
    error = _refusal(lambda: video.probe(_written(tmp_path / "text.mp4", b"not a video" * 100), FIELD))
    assert (error.code, error.value) == ("unsupported_media", "unknown")


def test_an_mp4_with_sound_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono"
        )
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    error = _refusal(lambda: video.probe(_input(path), FIELD))
    assert error.code == "invalid_media"
    assert "no video track" in error.message


def test_a_video_of_two_hours_is_refused_and_one_of_ten_minutes_is_read(tmp_path: Path) -> None:
    error = _refusal(lambda: video.probe(_stamped_video(tmp_path / "long.mp4", [0, 3600, 7200]), FIELD))
    assert (error.code, error.bound) == ("too_large", limits.MAX_VIDEO_SECONDS)
    assert error.value >= 7200
    found = video.probe(_stamped_video(tmp_path / "ten.mp4", [0, 300, 599]), FIELD)
    assert found.frames == 3
    assert 599 <= found.seconds <= 600


def test_a_video_of_more_frames_than_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_VIDEO_FRAMES", 8)
    assert video.probe(_input(encode.write_mp4(tmp_path, _noise(8), 8)), FIELD).frames == 8
    error = _refusal(lambda: video.probe(_input(encode.write_mp4(tmp_path, _noise(9), 8)), FIELD))
    assert (error.code, error.value, error.bound) == ("too_large", 9, 8)


def test_frames_of_more_pixels_than_the_limit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _input(encode.write_mp4(tmp_path, _noise(2), 8))
    monkeypatch.setattr(limits, "MAX_VIDEO_PIXELS", 64 * 64)
    assert video.probe(file, FIELD).width == 64
    monkeypatch.setattr(limits, "MAX_VIDEO_PIXELS", 64 * 64 - 1)
    assert _refusal(lambda: video.probe(file, FIELD)).code == "too_large"


def test_a_file_of_more_bytes_than_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _input(encode.write_mp4(tmp_path, _noise(2), 8))
    monkeypatch.setattr(limits, "MAX_VIDEO_BYTES", file.bytes - 1)
    error = _refusal(lambda: video.probe(file, FIELD))
    assert (error.code, error.value, error.bound) == ("too_large", file.bytes, file.bytes - 1)


def test_a_png_of_100_megapixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    Image.new("1", (10_000, 10_000)).save(tmp_path / "bomb.png")
    error = _refusal(lambda: image.read(_input(tmp_path / "bomb.png"), FIELD))
    assert (error.code, error.value, error.bound) == ("too_large", 100_000_000, 40_000_000)


def test_a_png_of_40_megapixels_is_read(tmp_path: Path) -> None:
    Image.new("1", (8_000, 5_000)).save(tmp_path / "large.png")
    assert image.read(_input(tmp_path / "large.png"), FIELD).pixels.size == (8_000, 5_000)


@pytest.mark.parametrize("kept", [9, 20, 100, 3000])
def test_a_truncated_png_is_refused(tmp_path: Path, kept: int) -> None:
    data = encode.write_png(tmp_path, _noise(1)[0]).read_bytes()
    error = _refusal(lambda: image.read(_written(tmp_path / "cut.png", data[:kept]), FIELD))
    assert error.code == "invalid_media"


def test_a_picture_is_read_upright_and_transparency_becomes_white(tmp_path: Path) -> None:
    sideways = Image.new("RGB", (40, 20), "red")
    exif = sideways.getexif()
    exif[0x0112] = 6
    sideways.save(tmp_path / "sideways.jpg", exif=exif)
    assert image.read(_input(tmp_path / "sideways.jpg"), FIELD).pixels.size == (20, 40)
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert image.read(_input(tmp_path / "clear.png"), FIELD).pixels.getpixel((0, 0)) == (255, 255, 255)
    Image.new("RGB", (8, 8), "blue").save(tmp_path / "blue.webp", lossless=True)
    assert image.read(_input(tmp_path / "blue.webp"), FIELD).pixels.getpixel((0, 0)) == (0, 0, 255)


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mp4", "libx264"), (".mov", "libx264"), (".webm", "libvpx-vp9"), (".gif", "gif")]
)
def test_the_frames_asked_for_come_back_from_every_container(tmp_path: Path, suffix: str, codec: str) -> None:
    file = _stamped_video(tmp_path / f"steps{suffix}", list(range(6)), codec)
    assert video.probe(file, FIELD).frames == 6
    levels = video.frames(file, [0, 2, 5], FIELD).mean(axis=(1, 2, 3))
    assert np.abs(levels - [0, 80, 200]).max() < 12


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "libx264"), (".webm", "libvpx-vp9")])
def test_leaping_through_a_long_video_finds_the_frames_that_decoding_all_of_it_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, codec: str
) -> None:
    path = tmp_path / f"long{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(25), options={"g": "12"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for number in range(90):
            pixels = np.full((64, 64, 3), 2 * number + 20, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    file, wanted = _input(path), [0, 1, 13, 40, 41, 89]
    in_order = video.frames(file, wanted, FIELD)
    monkeypatch.setattr(video, "LONG_VIDEO", 0)
    assert np.array_equal(video.frames(file, wanted, FIELD), in_order)
    assert np.abs(in_order.mean(axis=(1, 2, 3)) - [2 * number + 20 for number in wanted]).max() < 3


def test_a_video_held_sideways_is_read_upright(tmp_path: Path) -> None:
    lying = np.zeros((2, 64, 96, 3), dtype=np.uint8)
    lying[:, :, :48, 0] = lying[:, :, 48:, 2] = 220  # red on the left, blue on the right
    data = bytearray(encode.write_mp4(tmp_path, lying, 8).read_bytes())
    matrix = data.index(b"tkhd") + 44  # of the track header, ISO/IEC 14496-12, 8.3.2
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 64 << 16, 0, 1 << 30)
    [upright] = video.frames(_written(tmp_path / "turned.mp4", bytes(data)), [0], FIELD)
    assert upright.shape == (96, 64, 3)
    assert upright[:40].mean(axis=(0, 1)).argmax() == 0, "a quarter turn to the right brings the left side up"
    assert upright[56:].mean(axis=(0, 1)).argmax() == 2


def test_large_frames_are_shrunk_so_that_memory_stays_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _input(encode.write_mp4(tmp_path, _noise(2)[:, :32], 8))
    monkeypatch.setattr(limits, "MAX_FRAME_EDGE", 16)
    assert video.frames(file, [0, 1], FIELD).shape == (2, 8, 16, 3)


def test_an_mp4_plays_while_it_loads_and_keeps_its_colours(tmp_path: Path) -> None:
    colours = [(220, 30, 30), (30, 200, 40), (20, 40, 210), (255, 255, 255), (0, 0, 0)]
    frames = np.stack([np.full((64, 96, 3), colour, dtype=np.uint8) for colour in colours])
    path = encode.write_mp4(tmp_path, frames, 8)
    data = path.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat"), "the index comes before the frames"
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.pix_fmt, context.colorspace, context.color_range) == ("yuv420p", 1, 1)
    back = video.frames(_input(path), range(5), FIELD).mean(axis=(1, 2))
    assert np.abs(back - np.array(colours)).max() < 6


def test_the_same_frames_give_the_same_bytes_whatever_lies_in_unused_memory(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib, numpy as np; from koma.models.media import encode\n"
        "t, y, x = np.mgrid[:9, :64, :64]\n"
        "frames = np.stack([3 * x + 4 * t, 3 * y + 2 * t, x + y + 5 * t], -1).astype(np.uint8)\n"
        "print(encode.write_mp4(pathlib.Path(sys.argv[1]), frames, 8))"
    )
    made = []
    for filler in ("1", "90"):  # glibc fills what it hands out with these bytes
        environment = {**os.environ, "MALLOC_PERTURB_": filler, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", script, str(tmp_path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        made.append(Path(done.stdout.strip()).read_bytes())
    assert made[0] == made[1]


def test_a_preview_is_small(tmp_path: Path) -> None:
    preview = encode.preview(np.zeros((704, 1216, 3), dtype=np.uint8))
    assert (preview.media_type, preview.width, preview.height) == ("image/jpeg", 320, 185)
    assert len(preview.data) < 20_000
