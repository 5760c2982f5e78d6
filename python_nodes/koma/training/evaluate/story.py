"""The story: a clip is described, the description painted, the painting moved; and the judge itself."""

from __future__ import annotations

import torch

from koma.training.evaluate.context import Context
from koma.training.evaluate.figures import Figure, share
from koma.training.evaluate.images import Painter, judge_images
from koma.training.evaluate.understanding import Watcher
from koma.training.evaluate.videos import Director, judge_clips
from koma.training.evaluate.worst import clip_sheet

STORIES = 100
JUDGED = 4
"""The judge is cheap: it is tested on so many times the samples."""


def measure_story(context: Context) -> list[Figure]:
    """Send held-out clips through all three models; compare what comes out with what went in."""
    scenes = context.scenes(31, "heldout", "clip", min(STORIES, context.samples))
    watcher, painter, director = Watcher(context), Painter(context), Director(context)
    texts: list[str] = []
    for _, batch in context.batches(scenes):
        texts += watcher.answer(context.renderer.clips(batch), ["Describe this video."] * len(batch))
    images = painter.paint(texts, 310_000)
    clips = director.film(texts, 320_000, images)
    painted, _, _ = judge_images(context, images, scenes)
    objects, motions, places, scores = judge_clips(context, clips, scenes)
    worst = sorted(range(len(scenes)), key=lambda row: (objects[row], scores[row]))
    clip_sheet(context, "story", clips, worst, [texts[row] for row in worst])
    everything = [all(row) for row in zip(objects, motions, places, strict=True)]
    return [
        share("story: object of the input = object of the picture", painted),
        share("story: object of the input = object of the output video", objects, 45, 85),
        share("story: object, motion and background survive", everything),
    ]


@torch.no_grad()
def measure_judge(context: Context) -> list[Figure]:
    """Test the judge on rendered truth that it never saw."""
    scenes = context.scenes(41, "any", "clip", JUDGED * context.samples)
    pictures: list[bool] = []
    columns: list[list[bool]] = [[], [], []]
    for _, batch in context.batches(scenes):
        clips = context.renderer.clips(batch)
        pictures += judge_images(context, clips[:, 0], batch)[0]
        for column, hits in zip(columns, judge_clips(context, clips, batch)[:3], strict=True):
            column += hits
    names = ("objects", "motion", "background")
    return [
        share("judge: objects of a rendered picture", pictures, 98),
        *(
            share(f"judge: {name} of a rendered clip", column, 98)
            for name, column in zip(names, columns, strict=True)
        ),
    ]
