"""Clips as people have them: what a model is shown equals what ffmpeg's command line shows."""

from __future__ import annotations

import hashlib
import struct
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from koma.errors import KomaError
from koma.models.media import video
from koma.models.media.timeline import Timeline
from koma.runtime.runner import InputFile

FIELD = "inputs.video"
CASES = Path(__file__).parent / "cases"
TYPES = {
    ".mp4": "video/mp4", ".mov": "video/quicktime", ".webm": "video/webm", ".gif": "image/gif",
    ".mkv": "video/x-matroska",
}  # fmt: skip
Pixels = npt.NDArray[np.uint8]


def _input(path: Path) -> InputFile:
    data = path.read_bytes()
    return InputFile(path, hashlib.sha256(data).hexdigest(), TYPES[path.suffix], len(data))


def _ffmpeg(*arguments: str | Path) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, arguments)], check=True)


def _stamps(path: Path) -> list[float]:
    """Seconds of the frames that ffmpeg shows, by its own command line."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-map", "0:V:0", "-vsync", "passthrough",
               "-copyts", "-enc_time_base", "1:90000", "-f", "framecrc", "-"]  # fmt: skip
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [int(line.split(",")[2]) / 90_000 for line in told.splitlines() if not line.startswith("#")]


def _shown(path: Path, size: tuple[int, int], filters: str = "null") -> Pixels:
    """All frames [n, height, width, 3] that ffmpeg shows."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-map", "0:V:0", "-vsync", "passthrough",
               "-vf", filters, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]  # fmt: skip
    data = subprocess.run(command, check=True, capture_output=True).stdout
    return np.frombuffer(data, np.uint8).reshape(-1, size[1], size[0], 3)


def _read(path: Path, most: int = 8, per_second: float = 4.0) -> tuple[video.Video, list[int], Pixels]:
    file = _input(path)
    found = video.probe(file, FIELD)
    chosen = found.timeline.choose(most, per_second)
    return found, chosen, video.frames(file, chosen, FIELD, found)


def _assert_as_ffmpeg(path: Path, size: tuple[int, int], filters: str = "null") -> None:
    """Count, times and pixels of the frames are those of ffmpeg's command line."""
    found, chosen, pixels = _read(path)
    shown, stamps = _shown(path, size, filters), _stamps(path)
    assert found.frames == len(shown) == len(stamps)
    for index in chosen:
        frame = 1 / found.fps
        assert abs(found.timeline.times[index] - (stamps[index] - stamps[0])) <= frame
    assert pixels.shape == (len(chosen), size[1], size[0], 3)
    assert _difference(pixels, shown[chosen]) <= 2


def _difference(one: Pixels, other: Pixels) -> float:
    """The mean difference of the worst frame and channel."""
    return float(np.abs(one.astype(int) - other.astype(int)).mean(axis=(1, 2)).max())


def _flat(shown: Pixels) -> npt.NDArray[np.bool_]:
    """Where a pixel [n, height, width] has neighbours of its own colour all around."""
    values, flat = shown.astype(int), np.ones(shown.shape[:3], dtype=bool)
    for down, right in ((0, 4), (0, -4), (4, 0), (-4, 0), (4, 4), (-4, -4)):
        moved = np.roll(values, (down, right), axis=(1, 2))
        flat &= np.abs(moved - values).max(axis=-1) <= 1
    return flat


def _clip(path: Path, *more: str, source: str = "testsrc2=size=96x64:rate=25:duration=3") -> Path:
    _ffmpeg("-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p", *more, path)
    return path


def _variable(path: Path, *codec: str) -> Path:
    """Nearly still, then busy, then nearly still: as a browser records a screen."""
    chosen = "select='lt(t,2)*not(mod(n,13))+between(t,2,3)+gt(t,3)*not(mod(n,11))'"
    source = "testsrc2=size=96x64:rate=25:duration=6"
    _ffmpeg("-f", "lavfi", "-i", source, "-vf", chosen, "-vsync", "vfr", "-pix_fmt", "yuv420p", *codec, path)
    return path


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("v.mp4", ("-c:v", "libx264", "-bf", "2")),
        ("v.webm", ("-c:v", "libvpx", "-b:v", "1M")),
        ("v.mkv", ("-c:v", "libx264", "-bf", "2")),
    ],
)
def test_frames_of_a_variable_rate_are_chosen_and_told_by_their_times(
    tmp_path: Path, name: str, codec: tuple[str, ...]
) -> None:
    path = _variable(tmp_path / name, *codec)
    _assert_as_ffmpeg(path, (96, 64))
    found, chosen, _ = _read(path, most=6, per_second=1.0)
    told = [found.timeline.time(index) for index in chosen]
    even = np.linspace(0, found.timeline.times[-1], 6)
    # Evenly spread over the seconds, each at most as late as the frame that is shown then has been for long.
    assert all(0 <= second - time <= 0.53 for second, time in zip(even, told, strict=True))


def test_a_gif_whose_pictures_last_differently_is_read_by_time(tmp_path: Path) -> None:
    path = tmp_path / "v.gif"
    chosen = "select='lt(t,2)*not(mod(n,5))+between(t,2,3)'"
    source = "testsrc2=size=96x64:rate=10:duration=4"
    _ffmpeg("-f", "lavfi", "-i", source, "-vf", chosen, "-vsync", "vfr", path)
    _assert_as_ffmpeg(path, (96, 64))


@pytest.mark.parametrize("group", [12, 250])
@pytest.mark.parametrize("cut", ["0.3", "0.9", "1.5", "2.1", "2.5"])
def test_a_lossless_cut_shows_the_frames_that_players_show(tmp_path: Path, group: int, cut: str) -> None:
    whole = _clip(tmp_path / "whole.mp4", "-c:v", "libx264", "-g", str(group), "-bf", "2")
    path = tmp_path / "cut.mp4"
    _ffmpeg("-ss", cut, "-i", whole, "-c", "copy", path)
    _assert_as_ffmpeg(path, (96, 64))


@pytest.mark.parametrize("groups", ["open-gop=0", "open-gop=1", "intra-refresh=1"])
def test_leaps_in_a_long_clip_reach_the_frames_that_decoding_in_order_reaches(
    tmp_path: Path, groups: str
) -> None:
    source = "testsrc2=size=64x48:rate=25:duration=16"
    codec = ("-c:v", "libx264", "-g", "40", "-bf", "2", "-preset", "ultrafast", "-x264-params", groups)
    path = _clip(tmp_path / "long.mp4", *codec, source=source)
    cut = tmp_path / "cut.mp4"
    _ffmpeg("-ss", "1.3", "-i", path, "-c", "copy", cut)
    for one in (path, cut):
        found, chosen, pixels = _read(one, most=7, per_second=1.0)
        assert found.frames >= 300
        assert _difference(pixels, _shown(one, (64, 48))[chosen]) <= 2


@pytest.mark.parametrize(("rate", "seconds"), [("25", 0.2), ("30000/1001", 3.0), ("24", 7.3), ("12", 70.0)])
def test_a_constant_rate_gives_the_very_frames_and_times_of_the_stock_processor(
    tmp_path: Path, rate: str, seconds: float
) -> None:
    from koma.models import components  # noqa: F401  (prepares the import of the libraries)

    from transformers import SmolVLMVideoProcessor  # isort: skip
    from transformers.video_utils import VideoMetadata  # isort: skip

    source = f"testsrc2=size=32x32:rate={rate}:duration={seconds}"
    path = _clip(tmp_path / "c.mp4", "-c:v", "libx264", "-preset", "ultrafast", source=source)
    found = video.probe(_input(path), FIELD)
    processor = SmolVLMVideoProcessor(
        video_sampling={"fps": 1, "max_frames": 8, "video_size": {"longest_edge": 64}}
    )
    for most, per_second in ((8, 1.0), (64, 1.0), (16, 4.0), (1, 0.5)):
        metadata = VideoMetadata(
            total_num_frames=found.frames, fps=found.fps, duration=found.frames / found.fps
        )
        stock = processor.sample_frames(metadata, num_frames=most, fps=per_second)
        metadata.frames_indices = stock
        chosen = found.timeline.choose(most, per_second)
        assert chosen == [int(index) for index in stock]
        assert [found.timeline.time(index) for index in chosen] == pytest.approx(metadata.timestamps)


MATRICES = {
    "upright": (1, 0, 0, 1), "right": (0, 1, -1, 0), "half a turn": (-1, 0, 0, -1), "left": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1), "flipped": (1, 0, 0, -1),
    "transposed": (0, 1, 1, 0), "transversed": (0, -1, -1, 0),
}  # fmt: skip


def _with_matrix(clip: bytes, matrix: tuple[int, ...]) -> bytes:
    """The clip with another display matrix in its track header (version 0)."""
    at = clip.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    return clip[:at] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + clip[at + 36 :]


@pytest.mark.parametrize("name", MATRICES)
def test_each_of_the_eight_orientations_is_shown_upright(tmp_path: Path, name: str) -> None:
    clip = _clip(tmp_path / "clip.mp4", "-c:v", "libx264", source="testsrc2=size=96x64:rate=5:duration=1")
    path = tmp_path / "turned.mp4"
    path.write_bytes(_with_matrix(clip.read_bytes(), MATRICES[name]))
    size = (64, 96) if MATRICES[name][0] == 0 else (96, 64)
    _assert_as_ffmpeg(path, size)


@pytest.mark.parametrize("matrix", [(0, 0, 0, 0), (1, 1, 1, 1), (3, 2, 1, 7)])
def test_a_broken_display_matrix_means_upright(tmp_path: Path, matrix: tuple[int, ...]) -> None:
    clip = _clip(tmp_path / "clip.mp4", "-c:v", "libx264", source="testsrc2=size=96x64:rate=5:duration=1")
    path = tmp_path / "broken.mp4"
    path.write_bytes(_with_matrix(clip.read_bytes(), matrix))
    assert np.array_equal(_read(path)[2], _read(clip)[2])


@pytest.mark.parametrize(
    ("aspect", "size"),
    [("2/1", (192, 64)), ("1/2", (96, 128)), ("4/3", (128, 64)), ("16/11", (140, 64)), ("8/9", (96, 72))],
)
def test_pixels_that_are_not_square_are_made_so(tmp_path: Path, aspect: str, size: tuple[int, int]) -> None:
    source = "smptebars=size=96x64:rate=5:duration=1"
    path = _clip(tmp_path / "a.mp4", "-vf", f"setsar={aspect}", "-c:v", "libx264", "-qp", "4", source=source)
    _, chosen, pixels = _read(path)
    assert pixels.shape == (len(chosen), size[1], size[0], 3)
    shown = _shown(path, size, f"scale={size[0]}:{size[1]}:flags=bilinear,setsar=1")[chosen]
    flat = _flat(shown)
    assert flat.mean() > 0.2
    assert np.abs(pixels.astype(int) - shown.astype(int))[flat].max() <= 2


def test_interlaced_frames_have_whole_lines(tmp_path: Path) -> None:
    path = _clip(
        tmp_path / "i.mp4", "-vf", "interlace", "-flags", "+ilme+ildct", "-c:v", "libx264",
        "-x264-params", "tff=1", source="testsrc2=size=96x64:rate=50:duration=2",
    )  # fmt: skip
    _assert_as_ffmpeg(path, (96, 64), "bwdif=mode=send_frame:deint=all")


@pytest.mark.parametrize("curve", ["smpte2084", "arib-std-b67"])
def test_high_dynamic_range_is_mapped_as_the_usual_filters_of_ffmpeg_map_it(
    tmp_path: Path, curve: str
) -> None:
    path = tmp_path / "hdr.mp4"
    tags = f"colorprim=bt2020:transfer={curve}:colormatrix=bt2020nc"
    _ffmpeg(
        "-f", "lavfi", "-i", "smptehdbars=size=192x128:rate=5:duration=1", "-pix_fmt", "yuv420p10le",
        "-c:v", "libx264", "-qp", "1", "-x264-params", tags, path,
    )  # fmt: skip
    mapped = (
        "zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,tonemap=tonemap=hable:desat=0,"
        "zscale=t=bt709:m=bt709:r=tv,format=yuv420p,scale=in_color_matrix=bt709"
    )
    _, chosen, pixels = _read(path)
    shown = _shown(path, (192, 128), mapped)[chosen]
    # ffmpeg's way halves the resolution of colour once more: what is compared are areas of one colour.
    flat = _flat(shown)
    assert flat.mean() > 0.3
    assert np.abs(pixels.astype(int) - shown.astype(int))[flat].max() <= 2


@pytest.mark.parametrize(
    ("size", "tags", "matrix"),
    [
        ("1280x720", (), "bt709"),
        ("96x64", (), "smpte170m"),
        ("96x64", ("-colorspace", "bt709"), "bt709"),
    ],
)
def test_colours_follow_the_matrix_that_is_told_and_the_size_where_none_is(
    tmp_path: Path, size: str, tags: tuple[str, ...], matrix: str
) -> None:
    path = _clip(
        tmp_path / "c.mp4", *tags, "-c:v", "libx264", "-qp", "4", "-preset", "ultrafast",
        source=f"smptehdbars=size={size}:rate=2:duration=1",
    )  # fmt: skip
    width, height = map(int, size.split("x"))
    if width > 1024:
        width, height = 1024, 576
    filters = f"scale={width}:{height}:flags=bicubic:in_color_matrix={matrix}"
    _, chosen, pixels = _read(path)
    assert _difference(pixels, _shown(path, (width, height), filters)[chosen]) <= 2


def _case(name: str) -> InputFile:
    return _input(CASES / name)


@pytest.mark.parametrize("name", ["resize_vp8.webm", "resize_vp9.mp4"])
def test_frames_that_change_their_size_are_brought_to_that_of_the_first(name: str) -> None:
    _, chosen, pixels = _read(CASES / name)
    assert pixels.shape == (len(chosen), 240, 320, 3)
    assert _difference(pixels, _shown(CASES / name, (320, 240), "scale=320:240:flags=bicubic")[chosen]) <= 2


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("bomb8k.webm", "too_large", "at most|more than 9.4 megapixels a frame"),
        ("codec_encv.mp4", "unsupported_media", "codec encv"),
    ],
)
def test_what_cannot_be_decoded_is_refused_in_words(name: str, code: str, words: str) -> None:
    with pytest.raises(KomaError, match=words) as refused:
        _read(CASES / name)
    assert (refused.value.code, refused.value.field) == (code, FIELD)


def test_a_small_file_that_would_take_minutes_to_decode_is_refused_before_it_is(tmp_path: Path) -> None:
    path = tmp_path / "big.gif"
    _ffmpeg("-f", "lavfi", "-i", "color=red:size=4096x2304:rate=50:duration=0.04", path)
    data = path.read_bytes()
    start = data.index(b"\x21\xf9")
    path.write_bytes(data[:start] + data[start:-1] * 5_000 + b";")
    with pytest.raises(KomaError, match=r"megapixels to decode, at most 74,650") as refused:
        _read(path)
    assert refused.value.code == "too_large"


def test_the_track_that_players_play_is_read_not_its_thumbnail() -> None:
    found, chosen, pixels = _read(CASES / "thumbtrack_first.mp4")
    assert (found.frames, len(chosen)) == (90, 8)
    assert pixels.shape[1:] == (240, 320, 3)


def test_what_is_transparent_lies_on_white() -> None:
    _, _, pixels = _read(CASES / "vp9alpha.webm")
    assert (pixels[:, :4, :4] >= 253).all()
    assert pixels.mean() < 250


def test_a_recording_by_a_browser_is_told_its_true_seconds() -> None:
    found, chosen, _ = _read(CASES / "vfr_vp8.webm", most=8, per_second=1.0)
    told = [found.timeline.time(index) for index in chosen]
    stamps = _stamps(CASES / "vfr_vp8.webm")
    assert told == pytest.approx([stamps[index] - stamps[0] for index in chosen], abs=0.05)
    assert told[-1] > 15
    assert len([time for time in told if 12 <= time <= 13.5]) <= 1, "a busy second counts as any other"


def test_a_timeline_without_a_rate_is_still_one() -> None:
    still = Timeline((0.0,), 1.0, 1.0, True)
    assert still.choose(8, 1.0) == [0]
    assert still.time(0) == 0.0


def test_old_quicktime_without_a_brand_is_read() -> None:
    found, _, _ = _read(CASES / "old_b.mov")
    assert found.frames == 90
