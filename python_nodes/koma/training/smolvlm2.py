"""`koma train smolvlm2`: next-token loss on the answers of dialogues about pictures and clips of Emoji World.

Several dialogues about one clip share its frames: each turn attends to the media prefix and to itself only,
and its positions follow the prefix, so every turn sees what it would see alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from koma.training.compiling import compiled
from koma.training.judge import present
from koma.training.loop import Run
from koma.training.sheets import save_clips, save_grid
from koma.training.smolvlm2_card import write_card
from koma.training.smolvlm2_model import (
    MAX_FRAMES,
    SAMPLING_FPS,
    Shape,
    answer_logits,
    build_model,
    save_checkpoint,
    tiny,
)
from koma.training.smolvlm2_text import IGNORED, Layout, Timing, build_tokenizer, dialogues, sampled
from koma.training.world.catalogue import OBJECTS
from koma.training.world.degrade import degrade
from koma.training.world.judge import ABSENT
from koma.training.world.render import Renderer
from koma.training.world.scene import MAX_OBJECTS, Medium, SceneBatch, sample_batch
from koma.training.world.transfer import on_device

TURNS = 5
"""Dialogues about one clip."""
TURN_LENGTH = 32
"""Tokens kept for one dialogue; the grammar's longest is a little shorter."""
ALIGNMENT = 16
"""Chats are padded to a multiple of so many tokens, which fast attention kernels want of a mask."""
IMAGE_SHARE = 0.2
"""Share of steps on single pictures."""
IMAGES_PER_CLIP = 2
"""A step on pictures has so many times the samples of a step on clips."""
USUAL_SHARE = 0.7
"""Share of clip steps with the usual timing; the others vary rate, length and number of frames."""
FRAMES, FPS = 17, 8.0
GUIDE_WEIGHT, GUIDED = 0.3, 0.6
"""First weight of the loss that teaches the eyes directly, and the part of the run in which it fades out."""
PLACES_WEIGHT = 30.0


@dataclass(frozen=True)
class Chat:
    """One batch of chats: ids and labels int64 `[B, L]`; the rest is the same for all rows."""

    ids: Tensor
    labels: Tensor
    at_pictures: Tensor
    mask: Tensor
    positions: Tensor


class Guide(nn.Module):
    """Teaches the vision encoder while the text model cannot yet: which objects a frame shows, and where."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.objects = nn.Linear(width, len(OBJECTS))
        nn.init.constant_(self.objects.bias, ABSENT)
        self.places = nn.Linear(width, 3 * MAX_OBJECTS)

    def forward(self, patches: Tensor, scenes: SceneBatch, times: Tensor) -> Tensor:
        """Return the loss on patches `[B, T, P, width]` of the scenes at `times` `[T]`.

        Every object is named by the patch that shows it best; the mean patch tells centres and sizes.
        """
        shown = on_device(present(scenes), patches.device)[:, None].expand(-1, len(times), -1)
        scores = self.objects(patches).amax(2).float()
        named = functional.binary_cross_entropy_with_logits(scores, shown) * len(OBJECTS)
        start, end = (torch.from_numpy(path).flatten(1)[:, None] for path in (scenes.start, scenes.end))
        path = on_device(torch.lerp(start, end, times[:, None]), patches.device)
        return named + PLACES_WEIGHT * functional.mse_loss(self.places(patches.mean(2)).float(), path)


class SmolVLM2Run(Run):
    """Trains `SmolVLMForConditionalGeneration` from scratch."""

    name = "smolvlm2"
    lr = 1.5e-3
    warmup = 0.03

    def __init__(self, size: int = 128, tiny: bool = False, batch: int | None = None) -> None:
        self.size, self.tiny = size, tiny
        self.batch = batch or (8 if tiny else 64)

    def build(self, device: torch.device) -> None:
        """Make the model, the tokenizer's layout and the renderer on `device`."""
        self.device = device
        shape = tiny(self.size) if self.tiny else Shape(self.size)
        self.tokenizer = build_tokenizer()
        self.layout = Layout(self.tokenizer, shape.image_tokens)
        self.model = build_model(shape, self.tokenizer).to(device)
        self.guide = Guide(shape.vision_width).to(device)
        self.renderer = Renderer(self.size, FRAMES, device)
        self.usual = sampled(FRAMES, FPS, SAMPLING_FPS, MAX_FRAMES)
        wanted = device.type == "cuda" and self.options.compile
        self.fast_logits = compiled(answer_logits, self.name, wanted, dynamic=False)

    def modules(self) -> dict[str, nn.Module]:
        """Return the model and the guide of its eyes, which is not exported."""
        return {"model": self.model, "guide": self.guide}

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float | Tensor]]:
        """Return the mean cross-entropy of one batch's answers, at first with the guide's loss."""
        rng = np.random.default_rng(self.batch_seed(step))
        medium: Medium = "image" if rng.random() < IMAGE_SHARE else "clip"
        timing = self.usual if rng.random() < USUAL_SHARE else unusual_timing(rng)
        count = self.batch * (IMAGES_PER_CLIP if medium == "image" else 1)
        scenes = sample_batch(count, self.batch_seed(step), "train", medium=medium)
        pixels = self._pixels(scenes, medium, timing, generator)
        chat = self._chat(scenes, medium, timing, rng)
        usual = medium == "image" or timing is self.usual
        forward = self.fast_logits if usual else answer_logits
        logits, patches = forward(self.model, chat.ids, pixels, chat.at_pictures, chat.mask, chat.positions)
        predicted, wanted = logits[:, :-1].flatten(0, 1), chat.labels[:, 1:].flatten()
        loss = functional.cross_entropy(predicted.float(), wanted, ignore_index=IGNORED)
        weight = GUIDE_WEIGHT * max(0.0, 1 - self.progress / GUIDED)
        if weight:
            times = torch.tensor((0.0,) if medium == "image" else timing.places)
            guided = self.guide(patches.unflatten(0, (count, len(times))), scenes, times)
            return loss + weight * guided, {medium: loss.detach(), "guide": guided.detach()}
        return loss, {medium: loss.detach()}

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
        save_checkpoint(self.model, self.tokenizer, path)
        write_card(self.model, self.size, self.result, path)

    @torch.no_grad()
    def captions(self, scenes: SceneBatch, medium: Medium) -> list[str]:
        """Caption scenes with the model as it is, greedily."""
        pixels = self._pixels(scenes, medium, self.usual, None)
        prefix = self.layout.image_prefix() if medium == "image" else self.layout.video_prefix(self.usual)
        name = "image" if medium == "image" else "video"
        asked, _ = self.layout.turn(f"Describe this {name}.", "")
        prompt = torch.tensor([prefix + asked[:-1]], device=self.device).repeat(len(scenes), 1)
        out = self.model.generate(
            input_ids=prompt, pixel_values=pixels, attention_mask=torch.ones_like(prompt), max_new_tokens=24
        )
        said: list[str] = self.tokenizer.batch_decode(out[:, prompt.shape[1] :], skip_special_tokens=True)
        return [text.strip() for text in said]

    def _pixels(
        self, scenes: SceneBatch, medium: Medium, timing: Timing, generator: torch.Generator | None
    ) -> Tensor:
        """Render `[B, frames, 3, S, S]` in about [-1, 1]; damaged if a generator is given."""
        if medium == "image":
            frames = self.renderer.images(scenes)[:, None]
        else:
            frames = self.renderer.frames_at(scenes, torch.tensor(timing.places))
        shown = frames.float() / 255 if generator is None else degrade(frames, generator)
        return shown * 2 - 1

    def _chat(self, scenes: SceneBatch, medium: Medium, timing: Timing, rng: np.random.Generator) -> Chat:
        """Lay out `TURNS` dialogues about every scene behind the common media prefix."""
        prefix = self.layout.image_prefix() if medium == "image" else self.layout.video_prefix(timing)
        length = -(-(len(prefix) + TURNS * TURN_LENGTH) // ALIGNMENT) * ALIGNMENT
        ids = np.full((len(scenes), length), self.tokenizer.pad_token_id, np.int64)
        labels = np.full((len(scenes), length), IGNORED, np.int64)
        ids[:, : len(prefix)] = prefix
        for row, scene in enumerate(scenes.scenes()):
            for turn, (question, answer) in enumerate(dialogues(scene, rng, medium, TURNS)):
                tokens, targets = self.layout.turn(question, answer)
                start = len(prefix) + turn * TURN_LENGTH
                ids[row, start : start + len(tokens)] = tokens
                labels[row, start : start + len(tokens)] = targets
        mask, positions = turn_geometry(len(prefix), length, TURN_LENGTH, self.device)
        at_pictures = np.flatnonzero(ids[0] == self.model.config.image_token_id)
        shared = on_device(at_pictures, self.device), mask, positions
        return Chat(on_device(ids, self.device), on_device(labels, self.device), *shared)


@lru_cache(maxsize=32)
def turn_geometry(prefix: int, total: int, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return attention mask `[1, 1, total, total]` and positions `[1, total]` of turns behind one prefix.

    A token sees the prefix and its own turn up to itself; every turn's positions follow the prefix.
    """
    index = torch.arange(total, device=device)
    turn = torch.where(index < prefix, -1, (index - prefix) // length)
    same = (turn[None, :] == -1) | (turn[None, :] == turn[:, None])
    mask = (same & (index[None, :] <= index[:, None]))[None, None]
    positions = torch.where(turn < 0, index, prefix + (index - prefix) % length)[None]
    return mask, positions


def unusual_timing(rng: np.random.Generator) -> Timing:
    """Draw the timing of a clip that is longer or shorter than the usual one, or taken at another rate."""
    fps = float(rng.choice([6, 8, 10, 12, 16, 24]))
    total = int(rng.choice([9, 13, 17, 25, 33, 49]))
    count = int(rng.integers(4, 13))
    indices = np.unique(np.linspace(0, total - 1, count, dtype=int))
    return Timing(tuple(float(i) / (total - 1) for i in indices), fps, total)
