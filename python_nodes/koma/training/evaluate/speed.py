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


def measure_speed(context: Context) -> list[Figure]:
    """Time one caption, one picture and one clip on the CPU."""
    context.device = torch.device("cpu")
    torch.set_num_threads(THREADS)
    watcher, painter, director = Watcher(context), Painter(context), Director(context)
    clip = context.renderer.clips(context.scenes(51, "heldout", "clip", 1))
    text = ["a cat moving right at night"]
    paint_steps, film_steps = (c["num_inference_steps"] for c in (painter.defaults, director.call))
    question = ["Describe this video."]
    return [
        _timed("caption of a clip, stock generate", lambda: watcher.answer(clip, question), 1.5),
        _timed(f"picture, {paint_steps} steps, stock pipeline", lambda: painter.paint(text, 0), 1.5),
        _timed(f"clip of 17 frames, {film_steps} steps, stock pipeline", lambda: director.film(text, 0), 6.0),
    ]


def _timed(what: str, work: Callable[[], object], must: float) -> Figure:
    work()
    seconds = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return Figure(what, statistics.median(seconds), min(seconds), max(seconds), REPETITIONS, "s", must)
