"""SmolVLM2: captions of clips and pictures and answers to yes/no questions, through stock `generate`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from koma.training.evaluate.context import FPS, Context
from koma.training.evaluate.figures import Figure, balanced, share
from koma.training.evaluate.worst import clip_sheet
from koma.training.world.captions import canonical, parse
from koma.training.world.questions import checks
from koma.training.world.scene import Scene

CHECKED_CLIPS = 0.5
"""Clips asked yes/no questions, as a share of the samples; each is asked four."""


class Watcher:
    """The stock model and processor, answering questions in batches."""

    def __init__(self, context: Context) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        path = context.checkpoints / "smolvlm2"
        self.device = context.device
        self.processor: Any = AutoProcessor.from_pretrained(path)
        model: Any = AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float32)
        self.model = model.to(context.device).eval()

    @torch.no_grad()
    def answer(self, media: Tensor, questions: list[str]) -> list[str]:
        """Answer one question about each clip `[B, F, 3, H, W]` or picture `[B, 3, H, W]`, uint8."""
        kind = "video" if media.ndim == 5 else "image"
        texts = [self._chat(kind, question) for question in questions]
        arrays = [item.movedim(-3, -1).cpu().numpy() for item in media]
        if kind == "video":
            seen = {"videos": arrays, "video_metadata": [_metadata(len(item)) for item in arrays]}
        else:
            seen = {"images": [[item] for item in arrays]}
        inputs = self.processor(text=texts, padding=True, return_tensors="pt", **seen).to(self.device)
        out = self.model.generate(**inputs, do_sample=False, max_new_tokens=32)
        said = self.processor.batch_decode(out[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)
        return [text.strip() for text in said]

    def _chat(self, kind: str, question: str) -> str:
        content = [{"type": kind}, {"type": "text", "text": question}]
        text: str = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        return text


def measure_understanding(context: Context) -> list[Figure]:
    """Measure captions of clips, of held-out combinations and of pictures, and yes/no questions."""
    watcher = Watcher(context)
    figures = _captions(context, watcher, "clip", heldout=False)
    figures += _captions(context, watcher, "clip", heldout=True)
    figures += _pictures(context, watcher)
    return [*figures, _yes_no(context, watcher)]


def _captions(context: Context, watcher: Watcher, name: str, heldout: bool) -> list[Figure]:
    scenes = context.scenes(2 if heldout else 1, "heldout" if heldout else "any", "clip")
    said: list[str] = []
    for _, batch in context.batches(scenes):
        said += watcher.answer(context.renderer.clips(batch), ["Describe this video."] * len(batch))
    truths = scenes.scenes()
    hits = [_hits(scene, text) for scene, text in zip(truths, said, strict=True)]
    wrong = [row for row, hit in enumerate(hits) if not all(hit)]
    notes = [f"said: {said[row]}\ntrue: {canonical(truths[row])}" for row in wrong]
    clip_sheet(context, f"smolvlm2-{'heldout' if heldout else 'clips'}", scenes, wrong, notes)
    columns = list(zip(*hits, strict=True))
    if heldout:
        return [
            share(
                "SmolVLM2, held-out combinations: object, background and motion", list(map(all, hits)), aim=90
            )
        ]
    goals = (("object", 90, 98), ("background", 97, 99), ("motion", 90, 97))
    return [
        share(f"SmolVLM2: {what} of a {name} exact", column, must, aim)
        for column, (what, must, aim) in zip(columns, goals, strict=True)
    ]


def _pictures(context: Context, watcher: Watcher) -> list[Figure]:
    scenes = context.scenes(3, "any", "image")
    said: list[str] = []
    for _, batch in context.batches(scenes):
        said += watcher.answer(context.renderer.images(batch), ["Describe this image."] * len(batch))
    hits = [_hits(scene, text)[:2] for scene, text in zip(scenes.scenes(), said, strict=True)]
    return [share("SmolVLM2: object and background of a picture exact", list(map(all, hits)))]


def _yes_no(context: Context, watcher: Watcher) -> Figure:
    rng = np.random.default_rng(4)
    scenes = context.scenes(4, "any", "clip", max(8, int(context.samples * CHECKED_CLIPS)))
    hits: dict[str, list[bool]] = {"yes": [], "no": []}
    for _, batch in context.batches(scenes):
        clips = context.renderer.clips(batch)
        asked = [(row, *check) for row, scene in enumerate(batch.scenes()) for check in checks(scene, rng)]
        for start in range(0, len(asked), context.batch):
            piece = asked[start : start + context.batch]
            said = watcher.answer(clips[[row for row, _, _ in piece]], [question for _, question, _ in piece])
            for (_, _, truth), text in zip(piece, said, strict=True):
                hits[truth].append(text.lower().strip(" .!") == truth)
    return balanced("SmolVLM2: yes/no questions, balanced accuracy", hits["yes"], hits["no"], 85, 95)


def _hits(scene: Scene, text: str) -> tuple[bool, bool, bool]:
    """Tell whether the objects, the background and the motion of a caption are those of the scene."""
    said = parse(text)
    return (
        set(said.objects) == set(scene.kinds),
        said.background == scene.background,
        said.motion == scene.motion,
    )


def _metadata(total: int) -> Any:
    from transformers.video_utils import VideoMetadata

    return VideoMetadata(
        total_num_frames=total, fps=FPS, duration=total / FPS, frames_indices=list(range(total))
    )
