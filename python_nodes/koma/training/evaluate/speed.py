"""How long one request takes with the stock classes on two cores: median, least and most of five."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from koma.training.evaluate.context import Context
from koma.training.evaluate.figures import Figure
from koma.training.evaluate.images import Painter
from koma.training.evaluate.understanding import Watcher
from koma.training.evaluate.videos import Director

THREADS = 2
REPETITIONS = 5
QUESTION = ["Describe this video."]
PROMPT = ["a cat moving right at night"]


def measure_speed(context: Context) -> list[Figure]:
    """Time one caption, one picture and one clip on the CPU, of those whose checkpoints are there."""
    context.device = torch.device("cpu")
    torch.set_num_threads(THREADS)
    figures: list[Figure] = []
    if context.has("smolvlm2"):
        watcher, clip = Watcher(context), context.renderer.clips(context.scenes(51, "heldout", "clip", 1))
        what = "caption of a clip, stock generate"
        figures.append(_timed(what, lambda: watcher.answer(clip, QUESTION), 1.5))
    if context.has("amused"):
        painter = Painter(context)
        what = f"picture, {painter.defaults['num_inference_steps']} steps, stock pipeline"
        figures.append(_timed(what, lambda: painter.paint(PROMPT, 0), 1.5))
    if context.has("ltx-video"):
        director = Director(context)
        what = f"clip of 17 frames, {director.call['num_inference_steps']} steps, stock pipeline"
        figures.append(_timed(what, lambda: director.film(PROMPT, 0), 6.0))
    return figures


def _timed(what: str, work: Callable[[], object], must: float) -> Figure:
    work()
    seconds = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return Figure(what, statistics.median(seconds), min(seconds), max(seconds), REPETITIONS, "s", must)
