"""How long one request takes on two cores: with the stock classes, and beside them in Koma's runner."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from koma.models import registry
from koma.models.media.encode import write_mp4
from koma.runtime.runner import InputFile, Request, Runner
from koma.training.evaluate.context import FPS, Context
from koma.training.evaluate.figures import Figure
from koma.training.evaluate.images import Painter
from koma.training.evaluate.understanding import Watcher
from koma.training.evaluate.videos import Director

THREADS = 2
REPETITIONS = 5
QUESTION = "Describe this video."
PROMPT = "a cat moving right at night"
FAMILIES = {"smolvlm2": "smolvlm2", "amused": "amused", "ltx-video": "ltx_video"}
"""Folder of a checkpoint → family that serves it."""
LOAD = """
import sys
from koma.models import registry
for family, folder in zip(sys.argv[1::2], sys.argv[2::2]):
    registry.load(family, folder, "cpu", "float32", 1, {})
"""

Work = Callable[[], object]


def measure_speed(context: Context) -> list[Figure]:
    """Time one caption, one picture and one clip on the CPU, of those whose checkpoints are there.

    The stock classes get and give pixels; Koma's runner reads the clip from a file and writes its result to
    one, as it does for a job, alone in its process.
    """
    context.device = torch.device("cpu")
    torch.set_num_threads(THREADS)
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        if context.has("smolvlm2"):
            figures += _caption(context, Path(folder))
        if context.has("amused"):
            figures += _picture(context, Path(folder))
        if context.has("ltx-video"):
            figures += _clip(context, Path(folder))
    return figures + ([_loading(context)] if context.has(*FAMILIES) else [])


def _caption(context: Context, folder: Path) -> list[Figure]:
    watcher, clip = Watcher(context), context.renderer.clips(context.scenes(51, "heldout", "clip", 1))
    path = write_mp4(folder, clip[0].permute(0, 2, 3, 1).contiguous().numpy(), int(FPS))
    inputs = {"video": InputFile(path, "", "video/mp4", path.stat().st_size)}
    ours = _ours(context, "smolvlm2", "video.understand", {"prompt": QUESTION}, inputs, folder)
    return _timed("caption of a clip", "stock generate", lambda: watcher.answer(clip, [QUESTION]), ours, 1.5)


def _picture(context: Context, folder: Path) -> list[Figure]:
    painter = Painter(context)
    what = f"picture, {painter.defaults['num_inference_steps']} steps"
    ours = _ours(context, "amused", "image.generate", {"prompt": PROMPT, "seed": 1}, {}, folder)
    return _timed(what, "stock pipeline", lambda: painter.paint([PROMPT], 0), ours, 1.5)


def _clip(context: Context, folder: Path) -> list[Figure]:
    director = Director(context)
    what = f"clip of 17 frames, {director.call['num_inference_steps']} steps"
    ours = _ours(context, "ltx-video", "video.generate", {"prompt": PROMPT, "seed": 1}, {}, folder)
    return _timed(what, "stock pipeline", lambda: director.film([PROMPT], 0), ours, 6.0)


def _ours(
    context: Context,
    checkpoint: str,
    task: str,
    params: Mapping[str, Any],
    inputs: Mapping[str, InputFile],
    folder: Path,
) -> Work:
    """One job in the runner of a family, with the checkpoint's own defaults, from its input to its files.

    Every call has its own digest of the input: what the runner keeps of videos that it saw does not count.
    """
    place = str(context.checkpoints / checkpoint)
    runner: Runner = registry.load(FAMILIES[checkpoint], place, "cpu", "float32", 1, {})
    checked = runner.tasks[task].params.model_validate(params)

    def work() -> object:
        fresh = {name: replace(file, sha256=str(time.monotonic_ns())) for name, file in inputs.items()}
        state = runner.prepare(Request("job", task, checked, fresh, folder))
        while not state.done:
            runner.step([state])
        return runner.finish(state)

    return work


def _timed(what: str, stock_name: str, stock: Work, ours: Work, must: float) -> list[Figure]:
    """Time both by turns: the stock classes' seconds, Koma's, and the ratio of each pair."""
    stock(), ours()
    pairs = [(_seconds(stock), _seconds(ours)) for _ in range(REPETITIONS)]
    rows = [
        (f"{what}, {stock_name}", [pair[0] for pair in pairs], "s", must),
        (f"{what}, Koma's runner", [pair[1] for pair in pairs], "s", must),
        (f"{what}, Koma's runner ÷ {stock_name}", [ours / stock for stock, ours in pairs], "×", None),
    ]
    return [
        Figure(name, statistics.median(values), min(values), max(values), REPETITIONS, unit, goal)
        for name, values, unit, goal in rows
    ]


def _loading(context: Context) -> Figure:
    """A fresh Python process that loads all three, one after another, with everything that it imports."""
    places = [part for name, family in FAMILIES.items() for part in (family, str(context.checkpoints / name))]
    seconds = [
        _seconds(lambda: subprocess.run([sys.executable, "-c", LOAD, *places], check=True))
        for _ in range(REPETITIONS)
    ]
    what = "all three checkpoints loaded by a new process"
    return Figure(what, statistics.median(seconds), min(seconds), max(seconds), REPETITIONS, "s", 6.0)


def _seconds(work: Work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
