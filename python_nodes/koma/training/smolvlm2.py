"""`koma train smolvlm2`: next-token loss on the answers of dialogues about pictures and clips of Emoji World.

Several dialogues about one clip share its frames: each turn attends to the media prefix and to itself only,
and its positions follow the prefix, so every turn sees what it would see alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from koma.training.compiling import compiled
from koma.training.guide import NOT_ASKED, Guide
from koma.training.loop import SMALL, Run
from koma.training.sheets import save_clips, save_grid
from koma.training.smolvlm2_card import Recipe, write_card
from koma.training.smolvlm2_model import (
    MAX_FRAMES,
    answer_logits,
    build_model,
    image_features,
    save_checkpoint,
    usual,
)
from koma.training.smolvlm2_model import tiny as shape_for_tests
from koma.training.smolvlm2_text import IGNORED, Layout, Timing, build_tokenizer, dialogues, sampled
from koma.training.world.degrade import degrade
from koma.training.world.questions import SINGLE_CHECKS
from koma.training.world.render import Renderer
from koma.training.world.scene import Medium, Scene, SceneBatch, sample_batch
from koma.training.world.transfer import on_device

SMALL_LR, SMALL_EMA_DECAY = 3e-3, 0.99
"""Of runs of few steps: an average over more of them would still remember what was not yet learnt."""
TURNS, TURNS_ON_CPU = 5, 9
"""Dialogues about one clip; nine are all there are, and cost little beside the frames."""
TURNS_OF_IMAGES = 7
"""Dialogues there are about a picture."""
TURN_ROOM = 16
"""Tokens kept for one dialogue on the average; where a chat needs more, its last dialogue is left out."""
ALIGNMENT = 16
"""Chats are padded to a multiple of so many tokens, which fast attention kernels want of a mask."""
IMAGE_SHARE = 0.2
"""Share of steps on single pictures."""
IMAGES_PER_CLIP = 2
"""A step on pictures has so many times the samples of a step on clips."""
USUAL_SHARE = 0.7
"""Share of clip steps with the usual timing; the others vary rate, length and number of frames."""
VERDICTS = {"no": 0, "yes": 1}
PREFIX = -1
"""Number of the turn that every turn sees: the media."""
FRAMES, FPS = 17, 8.0
GUIDE_WEIGHT, GUIDED = 0.3, 0.8
"""First weight of the loss that teaches the eyes directly, and the part of the run in which it fades out."""
EYES_FIRST, EYES_BATCH = 0.2, 4
"""Part of a run on a CPU in which only the eyes learn, from so many times more single frames: far cheaper."""


@dataclass(frozen=True)
class Chat:
    """One batch of chats: ids, labels, verdicts and positions int64 `[B, L]`, mask bool `[B, 1, L, L]`.

    `verdicts` has the answers at the tokens of yes/no questions for one thing, see `Guide.verdict_loss`;
    `at_pictures` says where the pictures stand, in all rows alike.
    """

    ids: Tensor
    labels: Tensor
    verdicts: Tensor
    at_pictures: Tensor
    mask: Tensor
    positions: Tensor


class SmolVLM2Run(Run):
    """Trains `SmolVLMForConditionalGeneration` from scratch."""

    name = "smolvlm2"
    exported: ClassVar = {"model": ""}
    lr = 1.5e-3
    warmup = 0.03

    def __init__(self, size: int = 128, tiny: bool = False, batch: int | None = None) -> None:
        self.size, self.tiny = size, tiny
        small = tiny or size <= SMALL
        self.batch = batch or (8 if tiny else 16 if small else 64)
        if small and not tiny:
            self.lr, self.ema_decay = SMALL_LR, SMALL_EMA_DECAY
        self.shape = shape_for_tests(size) if tiny else usual(size)
        self.eyes_first = EYES_FIRST if small and not tiny else 0.0
        self.turns, self.turns_of_images = TURNS_ON_CPU if small else TURNS, TURNS_OF_IMAGES

    def build(self, device: torch.device) -> None:
        """Make the model, the tokenizer's layout and the renderer on `device`."""
        if self.options.start_from:
            self.eyes_first = 0.0
        self.device = device
        shape = self.shape
        self.tokenizer = build_tokenizer()
        self.layout = Layout(self.tokenizer, shape.image_tokens)
        self.model = build_model(shape, self.tokenizer).to(device)
        self.guide = Guide(shape.vision_width, shape.width).to(device)
        self.renderer = Renderer(self.size, FRAMES, device)
        self.usual = sampled(FRAMES, FPS, shape.fps, MAX_FRAMES)
        wanted = device.type == "cuda" and self.options.compile
        self.fast_logits = compiled(answer_logits, self.name, wanted, dynamic=False)

    def modules(self) -> dict[str, nn.Module]:
        """Return the model and the guide of its eyes, which is not exported."""
        return {"model": self.model, "guide": self.guide}

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float | Tensor]]:
        """Return the mean cross-entropy of one batch's answers, at first with the guide's loss."""
        rng = np.random.default_rng(self.batch_seed(step))
        if self.progress < self.eyes_first:
            return self._eyes_loss(step, rng, generator)
        medium: Medium = "image" if rng.random() < IMAGE_SHARE else "clip"
        timing = self.usual if rng.random() < USUAL_SHARE else unusual_timing(rng, len(self.usual.places))
        count = self.batch * (IMAGES_PER_CLIP if medium == "image" else 1)
        scenes = sample_batch(count, self.batch_seed(step), "train", medium=medium)
        pixels = self.pixels(scenes, medium, timing, generator)
        chat = self.chat(scenes, medium, timing, rng)
        usual = medium == "image" or timing is self.usual
        forward = self.fast_logits if usual else answer_logits
        logits, read, *seen = forward(
            self.model, chat.ids, pixels, chat.at_pictures, chat.mask, chat.positions
        )
        loss = answer_loss(logits, chat.labels)
        weight = GUIDE_WEIGHT * max(0.0, 1 - self.progress / GUIDED)
        if weight:
            times = torch.tensor((0.0,) if medium == "image" else timing.places)
            guided = self.guide(*seen, scenes, times) + self.guide.verdict_loss(read, chat.verdicts)
            if medium == "clip":
                guided = guided + self.guide.motion_loss(read[:, chat.at_pictures], scenes, len(times))
            return loss + weight * guided, {medium: loss.detach(), "guide": guided.detach()}
        return loss, {medium: loss.detach()}

    def _eyes_loss(
        self, step: int, rng: np.random.Generator, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float | Tensor]]:
        """Return the guide's loss on single frames."""
        scenes = sample_batch(EYES_BATCH * self.batch, self.batch_seed(step), "train")
        times = torch.tensor([rng.random()], dtype=torch.float32)
        frames = degrade(self.renderer.frames_at(scenes, times), generator) * 2 - 1
        loss = self.guide(*image_features(self.model, frames.flatten(0, 1)), scenes, times)
        return loss, {"guide": loss.detach()}

    def sheet(self, path: Path) -> None:
        """Write a GIF of clips and a PNG of pictures with the model's own captions."""
        clips = sample_batch(8, 1, "heldout")
        frames = self.renderer.clips(clips)
        save_clips(frames, path.with_suffix(".gif"), captions=self.captions(clips, "clip"))
        pictures = sample_batch(16, 2, "heldout", medium="image")
        captions = self.captions(pictures, "image")
        save_grid(self.renderer.images(pictures), path.with_suffix(".png"), captions=captions)

    def export(self, path: Path) -> None:
        """Write the folder that `AutoProcessor` and `AutoModelForImageTextToText` load."""
        save_checkpoint(self.model, self.tokenizer, path, self.shape.fps)
        recipe = Recipe(self.size, self.shape.fps, len(self.usual.places), self.turns, self.eyes_first)
        write_card(self.model, recipe, self.result, path)

    @torch.no_grad()
    def captions(self, scenes: SceneBatch, medium: Medium) -> list[str]:
        """Caption scenes with the model as it is, greedily."""
        pixels = self.pixels(scenes, medium, self.usual, None)
        prefix = self.layout.image_prefix() if medium == "image" else self.layout.video_prefix(self.usual)
        name = "image" if medium == "image" else "video"
        asked = self.layout.question(f"Describe this {name}.")
        prompt = torch.tensor([prefix + asked], device=self.device).repeat(len(scenes), 1)
        out = self.model.generate(
            input_ids=prompt, pixel_values=pixels, attention_mask=torch.ones_like(prompt), max_new_tokens=24
        )
        said: list[str] = self.tokenizer.batch_decode(out[:, prompt.shape[1] :], skip_special_tokens=True)
        return [text.strip() for text in said]

    def pixels(
        self, scenes: SceneBatch, medium: Medium, timing: Timing, generator: torch.Generator | None
    ) -> Tensor:
        """Render `[B, frames, 3, S, S]` in about [-1, 1]; damaged if a generator is given."""
        if medium == "image":
            frames = self.renderer.images(scenes)[:, None]
        else:
            frames = self.renderer.frames_at(scenes, torch.tensor(timing.places))
        shown = frames.float() / 255 if generator is None else degrade(frames, generator)
        return shown * 2 - 1

    def talk(self, scene: Scene, rng: np.random.Generator, medium: Medium) -> list[tuple[str, str]]:
        """Return the dialogues about one scene."""
        return dialogues(scene, rng, medium, self.turns)

    def chat(self, scenes: SceneBatch, medium: Medium, timing: Timing, rng: np.random.Generator) -> Chat:
        """Lay out dialogues about every scene, one behind the other, after the common media prefix."""
        prefix = self.layout.image_prefix() if medium == "image" else self.layout.video_prefix(timing)
        count = min(self.turns, self.turns_of_images) if medium == "image" else self.turns
        length = -(-(len(prefix) + count * TURN_ROOM) // ALIGNMENT) * ALIGNMENT
        ids = np.full((len(scenes), length), self.tokenizer.pad_token_id, np.int64)
        labels = np.full((len(scenes), length), IGNORED, np.int64)
        verdicts = np.full((len(scenes), length), NOT_ASKED, np.int64)
        turns = np.full((len(scenes), length), self.turns, np.int64)
        ids[:, : len(prefix)], turns[:, : len(prefix)] = prefix, PREFIX
        for row, scene in enumerate(scenes.scenes()):
            start = len(prefix)
            for turn, (question, answer) in enumerate(self.talk(scene, rng, medium)):
                tokens, targets = self.layout.turn(question, answer)
                if start + len(tokens) <= length:
                    place = slice(start, start + len(tokens))
                    ids[row, place], labels[row, place], turns[row, place] = tokens, targets, turn
                    if question in SINGLE_CHECKS:
                        verdicts[row, place] = VERDICTS[answer]
                    start = place.stop
        at_pictures = np.flatnonzero(ids[0] == self.model.config.image_token_id)
        mask, positions = turn_geometry(on_device(turns, self.device), len(prefix))
        own = [on_device(part, self.device) for part in (ids, labels, verdicts)]
        return Chat(own[0], own[1], own[2], on_device(at_pictures, self.device), mask, positions)


def answer_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of the next tokens, of logits `[B, L, vocab]` and labels `[B, L]`."""
    predicted, wanted = logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    return functional.cross_entropy(predicted.float(), wanted, ignore_index=IGNORED)


def turn_geometry(turns: Tensor, prefix: int) -> tuple[Tensor, Tensor]:
    """Return attention mask `[B, 1, L, L]` and positions `[B, L]` of turns behind a prefix.

    `turns` int64 `[B, L]` numbers the tokens' turns, `PREFIX` for those of the prefix. A token sees the
    prefix and its own turn up to itself; every turn's positions follow the prefix.
    """
    index = torch.arange(turns.shape[1], device=turns.device)
    first = torch.searchsorted(turns, turns)
    positions = torch.where(turns == PREFIX, index, prefix + index - first)
    same = (turns[:, None, :] == PREFIX) | (turns[:, None, :] == turns[:, :, None])
    return (same & (index[None, :] <= index[:, None]))[:, None], positions


def unusual_timing(rng: np.random.Generator, usual: int) -> Timing:
    """Draw the timing of a clip that is longer or shorter than the usual one, or taken at another rate.

    It has half to one and a half times as many frames as the `usual` number.
    """
    fps = float(rng.choice([6, 8, 10, 12, 16, 24]))
    total = int(rng.choice([9, 13, 17, 25, 33, 49]))
    count = int(rng.integers(usual // 2, usual + usual // 2 + 1))
    indices = np.unique(np.linspace(0, total - 1, count, dtype=int))
    return Timing(tuple(float(i) / (total - 1) for i in indices), fps, total)
