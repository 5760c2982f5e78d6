"""What the marks cost: likeness to the unmarked picture, time and bytes."""

from __future__ import annotations

import tempfile
import time
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from pydantic import BaseModel

from koma.bench.finding import Table
from koma.bench.marks import pictures
from koma.bench.plan import Plan
from koma.models.media import encode
from koma.provenance.mark.blocks import Pixels
from koma.provenance.settings import Settings
from koma.provenance.step import Provenance
from koma.runtime.runner import Loaded, Output, Request
from koma.testing.marked import frames

SIDES = (64, 128, 256, 512, 1024)
FRAMES = 25


class _NoParams(BaseModel):
    """A job of nobody's."""


def measure(plan: Plan) -> Table:
    """Write pictures and clips with and without marks, in turn."""
    plan.say("cost of the marks")
    with tempfile.TemporaryDirectory() as folder:
        loaded = Loaded("bench", "none", "0" * 64, "cpu", "none")
        provenance = Provenance.open(Settings(Path(folder) / "keys"), loaded, "bench")
        rows = [_picture(plan, provenance, side, Path(folder)) for side in SIDES]
        rows += [_clip(plan, provenance, side, Path(folder)) for side in (128, 512)]
    head = ["output", "PSNR dB, least", "written ms", "with marks ms", "KB", "with marks KB"]
    return Table("Cost of both marks", head, rows)


def _picture(plan: Plan, provenance: Provenance, side: int, folder: Path) -> list[str]:
    given = list(islice(pictures.crops(np.random.default_rng([plan.seed, side]), side), plan.pick(17, 3)))
    return _row(f"PNG, {side} px", provenance, folder, given, "image/png")


def _clip(plan: Plan, provenance: Provenance, side: int, folder: Path) -> list[str]:
    random = np.random.default_rng([plan.seed, side])
    wide = islice(pictures.crops(random, side + FRAMES), plan.pick(5, 1))
    clips = [np.stack([picture[:side, n : n + side] for n in range(FRAMES)]) for picture in wide]
    return _row(f"MP4, {FRAMES} frames of {side} px", provenance, folder, clips, "video/mp4")


def _row(name: str, provenance: Provenance, folder: Path, given: list[Pixels], kind: str) -> list[str]:
    plain, marked = [], []
    likeness = []
    for pixels in given:
        plain.append(_written(None, folder, pixels, kind))
        marked.append(_written(provenance, folder, pixels, kind))
        if kind == "image/png":
            likeness.append(_psnr(pixels, frames(marked[-1][2], kind)[0]))
    return [
        name,
        f"{median(likeness):.1f}, {min(likeness):.1f}" if likeness else "",
        f"{1000 * median(item[0] for item in plain):.1f}",
        f"{1000 * median(item[0] for item in marked):.1f}",
        f"{median(item[1] for item in plain) / 1000:.1f}",
        f"{median(item[1] for item in marked) / 1000:.1f}",
    ]


def _written(provenance: Provenance | None, folder: Path, pixels: Any, kind: str) -> tuple[float, int, Path]:
    """Return seconds, bytes and the file."""
    request = Request("bench", "bench", _NoParams(), {}, folder)
    began = time.perf_counter()
    if provenance is None:
        path = _write(folder, pixels, kind)
    else:
        with provenance.session(request) as session:
            path = _write(folder, pixels, kind)
            session.sealed([Output("made", kind, path=path)])
    return time.perf_counter() - began, path.stat().st_size, path


def _write(folder: Path, pixels: Any, kind: str) -> Path:
    return encode.write_png(folder, pixels) if kind == "image/png" else encode.write_mp4(folder, pixels, 12)


def _psnr(first: Pixels, second: Pixels) -> float:
    error = float(((first.astype(np.float64) - second) ** 2).mean())
    return float(10 * np.log10(255**2 / error))
