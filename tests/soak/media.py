"""``python -m tests.soak.media --files 20000``: mutated pictures and clips, read as model nodes read them.

Small files of twelve kinds are made by FFmpeg and Pillow, then mutated: bits flipped, bytes replaced, ends
cut off, parts swapped, doubled and taken from other files, and sizes and counts in headers set to extremes.
Each is read as an input of its task is. It must be read, or be refused in words with a code of an input; no
process may die, none may take longer than a bound, and the memory must stay flat. Some of the files then go
through a real server. All of it follows from ``--seed``.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import multiprocessing
import random
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from koma.errors import KomaError
from koma.models.media import image, video
from koma.runtime.runner import InputFile

REFUSALS = {"invalid_media", "unsupported_media", "too_large"}
SLOW = 20.0
"""Seconds that no file of a few kilobytes may take."""
GROWTH = 200
"""MiB by which the memory of a process may be above that after its first files."""
SHARE = 500
"""Files that one task of a process reads."""
VIDEOS: dict[str, list[str]] = {
    "mp4": ["-c:v", "libx264", "-pix_fmt", "yuv420p"],
    "mov": ["-c:v", "mpeg4"],
    "hevc.mp4": ["-c:v", "libx265", "-x265-params", "log-level=none", "-tag:v", "hvc1"],
    "webm": ["-c:v", "libvpx-vp9", "-b:v", "100k"],
    "vp8.webm": ["-c:v", "libvpx", "-b:v", "100k"],
    "mkv": ["-c:v", "libx264", "-g", "3"],
    "frag.mp4": ["-c:v", "libx264", "-movflags", "frag_keyframe+empty_moov", "-g", "4"],
    "gif": [],
}
PICTURES = ("png", "jpeg", "webp", "deep.png")
EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@dataclass
class Told:
    """What became of files: by kind and code how many, and what must not be."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest: float = 0.0
    grown: float = 0.0


@cache
def originals(folder: Path) -> dict[str, bytes]:
    """Return the bytes of the file of each kind; the first process that asks makes them in ``folder``."""
    made = {}
    for kind, codec in VIDEOS.items():
        path = folder / f"original.{kind}"
        if path.exists():
            made[kind] = path.read_bytes()
            continue
        source = ["-f", "lavfi", "-i", "testsrc2=size=64x48:rate=8:duration=1.5"]
        subprocess.run(["ffmpeg", "-v", "error", "-y", *source, *codec, str(path)], check=True)
        made[kind] = path.read_bytes()
    pixels = np.random.default_rng(1).integers(0, 256, (40, 56, 3), np.uint8)
    for kind in PICTURES:
        made[kind] = _picture(pixels, kind)
    return made


def _picture(pixels: npt.NDArray[np.uint8], kind: str) -> bytes:
    """Encode a picture; the deep one has 16 bits, a colour profile and an orientation."""
    out = io.BytesIO()
    if kind == "deep.png":
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        exif = Image.Exif()
        exif[0x0112] = 6
        grey = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)
        grey.save(out, "PNG", icc_profile=profile, exif=exif)
    else:
        Image.fromarray(pixels).save(out, kind.upper())
    return out.getvalue()


def mutated(chance: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """Return the file with one to four mutations."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        if out:
            chance.choice(MUTATIONS)(chance, out, others)
    return bytes(out)


def _flip(chance: random.Random, out: bytearray, others: list[bytes]) -> None:
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        out[_place(chance, out)] ^= 1 << chance.randrange(8)


def _replace(chance: random.Random, out: bytearray, others: list[bytes]) -> None:
    at = _place(chance, out)
    new = chance.randbytes(chance.choice((1, 2, 4, 16, 256)))
    out[at : at + len(new)] = new


def _extreme(chance: random.Random, out: bytearray, others: list[bytes]) -> None:
    value, at = chance.choice(EXTREMES), _place(chance, out)
    size = chance.choice((1, 2, 4))
    order = chance.choice(("big", "little"))
    new = (value & (256**size - 1)).to_bytes(size, order)
    out[at : at + size] = new


def _cut(chance: random.Random, out: bytearray, others: list[bytes]) -> None:
    del out[_place(chance, out) :]


def _remove(chance: random.Random, out: bytearray, others: list[bytes]) -> None:
    at = _place(chance, out)
    del out[at : at + chance.choice((1, 4, 64, 1024))]


def _double(chance: random.Random, out: bytearray, others: list[bytes]) -> None:
    at, size = _place(chance, out), chance.choice((1, 8, 128, 2048))
    out[at:at] = out[at : at + size] * chance.choice((1, 1, 2, 16))


def _swap(chance: random.Random, out: bytearray, others: list[bytes]) -> None:
    at, to = _place(chance, out), _place(chance, out)
    size = min(chance.choice((1, 8, 128)), len(out) - max(at, to))
    out[at : at + size], out[to : to + size] = out[to : to + size], out[at : at + size]


def _borrow(chance: random.Random, out: bytearray, others: list[bytes]) -> None:
    other = chance.choice(others)
    at, size = chance.randrange(len(other)), chance.choice((4, 64, 1024))
    to = _place(chance, out)
    out[to : to + size] = other[at : at + size]


def _number(chance: random.Random, out: bytearray, others: list[bytes]) -> None:
    """Count one up or down in a number of four bytes, as lengths of boxes and chunks are."""
    at = min(_place(chance, out), max(len(out) - 4, 0))
    if len(out) >= 4:
        (value,) = struct.unpack_from(">I", out, at)
        struct.pack_into(">I", out, at, (value + chance.choice((-1, 1, 8, -8, 256))) & 0xFFFFFFFF)


def _place(chance: random.Random, out: bytearray) -> int:
    """Choose a place, in the headers as often as anywhere."""
    end = len(out) if chance.random() < 0.5 else min(len(out), 256)
    return chance.randrange(max(end, 1))


MUTATIONS = (_flip, _replace, _extreme, _cut, _remove, _double, _swap, _borrow, _number)


def files(seed: int, first: int, last: int, folder: Path) -> Iterator[tuple[int, str, bytes]]:
    """Yield the mutated files with these numbers, each with its kind."""
    kinds = originals(folder)
    names, others = list(kinds), list(kinds.values())
    for number in range(first, last):
        chance = random.Random(f"{seed}/{number}")
        kind = names[number % len(names)]
        yield number, kind, mutated(chance, kinds[kind], others)


def read(path: Path, data: bytes) -> str:
    """Read a file as a picture or a clip, as its first bytes say; return the code of a refusal, or ``read``.

    Raises whatever is no refusal in words.
    """
    path.write_bytes(data)
    file = InputFile(path, hashlib.sha256(data).hexdigest(), "", len(data))
    codes = []
    for name, reading in (("inputs.image", _read_picture), ("inputs.video", _read_clip)):
        try:
            reading(file, name)
        except KomaError as error:
            if error.code not in REFUSALS or not error.message.startswith(name):
                raise AssertionError(f"refused with {error.code}: {error.message}") from error
            codes.append(error.code)
        else:
            return "read"
    # One of the two says only that the file is of the other kind.
    return next((code for code in codes if code != "unsupported_media"), codes[0])


def _read_picture(file: InputFile, name: str) -> None:
    image.read(file, name)


def _read_clip(file: InputFile, name: str) -> None:
    found = video.probe(file, name)
    video.frames(file, found.timeline.choose(8, 4.0), name, found)


def check(seed: int, first: int, last: int, folder: Path) -> Told:
    """Read the files with these numbers in this process."""
    told, base = Told(), None
    path = folder / f"file-{first}"
    for number, kind, data in files(seed, first, last, folder):
        began = time.monotonic()
        try:
            code = read(path, data)
        except Exception as error:
            code = type(error).__name__
            told.faults.append(f"file {number} ({kind}): {code}: {error}")
        seconds = time.monotonic() - began
        told.slowest = max(told.slowest, seconds)
        if seconds > SLOW:
            told.faults.append(f"file {number} ({kind}) took {seconds:.1f} s")
        told.counts[kind, code] += 1
        if number == first + 50:
            base = _peak()
    path.unlink(missing_ok=True)
    told.grown = _peak() - base if base is not None else 0.0
    if told.grown > GROWTH:
        told.faults.append(f"files {first} to {last}: the memory grew by {told.grown:.0f} MiB")
    return told


def _peak() -> float:
    """Return the highest memory of this process so far in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(number: int, seed: int, processes: int, folder: Path) -> Told:
    """Read ``number`` files, each share of them in a process that may die of it alone."""
    originals(folder)
    told = Told()
    context = multiprocessing.get_context("spawn")
    for first in range(0, number, SHARE * processes):
        shares = range(first, min(first + SHARE * processes, number), SHARE)
        with ProcessPoolExecutor(processes, mp_context=context) as pool:
            ends = [min(start + SHARE, number) for start in shares]
            futures = [
                pool.submit(check, seed, start, end, folder) for start, end in zip(shares, ends, strict=True)
            ]
            for start, future in zip(shares, futures, strict=True):
                try:
                    _add(told, future.result())
                except BrokenProcessPool:
                    told.faults.append(f"a process died while it read files {start} to {start + SHARE}")
        print(f"{sum(told.counts.values())} files, {len(told.faults)} faults", flush=True)
    return told


def _add(told: Told, more: Told) -> None:
    told.counts += more.counts
    told.faults += more.faults
    told.slowest = max(told.slowest, more.slowest)
    told.grown = max(told.grown, more.grown)


async def serve(number: int, seed: int, folder: Path) -> list[str]:
    """Send files through a real server as inputs of jobs; return what broke a promise."""
    from tests.end_to_end.server import model_node_pids, running_server

    from koma.client import Client, FailedError, RefusedError

    faults, ended = [], Counter[str]()
    with running_server(folder / "server", {"KOMA_MODELS": "smolvlm2,ltx_video"}) as server:
        pids = model_node_pids(server)
        async with Client(server.url) as client:
            for at, kind, data in files(seed, 0, number, folder):
                if kind in PICTURES:
                    task, name, params = "video.generate", "image", {"prompt": "a cat", "steps": 1}
                else:
                    task, name, params = "video.understand", "video", {"max_new_tokens": 2}
                try:
                    artifact = await client.upload(data)
                    job = await client.submit(task, params, {name: artifact.id}, on_disconnect="keep")
                    await job.result()
                    ended["completed"] += 1
                except (RefusedError, FailedError) as error:
                    ended[error.code] += 1
                    if error.code not in REFUSALS | {"out_of_bounds"}:
                        faults.append(f"file {at} ({kind}) through the server: {error.code}: {error}")
        if model_node_pids(server) != pids:
            faults.append("a model node was restarted")
    print("through the server:", ", ".join(f"{count} {code}" for code, count in ended.most_common()))
    return faults


def main() -> int:
    """Run it and print a table; return 1 if a promise broke."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--served", type=int, default=300, help="files that go through a server")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="koma-media-") as name:
        told = run(options.files, options.seed, options.processes, Path(name))
        if options.served:
            told.faults += asyncio.run(serve(options.served, options.seed, Path(name)))
    kinds = sorted({kind for kind, _code in told.counts})
    codes = sorted({code for _kind, code in told.counts})
    print(
        "\n".join(
            f"{kind:9}" + "".join(f"{code} {told.counts[kind, code]:6}  " for code in codes) for kind in kinds
        )
    )
    print(f"slowest {told.slowest:.1f} s, memory grew by {told.grown:.0f} MiB at most")
    print("\n".join(told.faults[:50]) or "every file was read or refused in words")
    return 1 if told.faults else 0


if __name__ == "__main__":
    sys.exit(main())
