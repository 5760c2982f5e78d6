"""`koma train judge`: the classifier of pictures and clips that the evaluation asks, on rendered truth."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from koma.training.compiling import compiled
from koma.training.loop import SMALL, Run
from koma.training.sheets import save_grid
from koma.training.world.catalogue import BACKGROUNDS, OBJECTS
from koma.training.world.degrade import degrade
from koma.training.world.judge import Judge, Verdict, save_judge
from koma.training.world.render import Renderer
from koma.training.world.scene import SceneBatch, sample_batch
from koma.training.world.transfer import on_device

DAMAGE = 2.0
"""Strength of the damage to its pictures, so that it bears the artefacts of generators."""
FRAMES = 17
WIDTHS, SMALL_WIDTHS, TINY_WIDTHS = (24, 48, 96, 160), (16, 32, 64, 128), (16, 16, 24, 32)
"""Channels of the levels; `SMALL_WIDTHS` up to `SMALL` px."""
JUDGE_FRAMES = (0.0, 0.25, 0.5, 0.75, 1.0)


class JudgeRun(Run):
    """Trains `Judge` on clips of all combinations, so that it knows those that generators never saw."""

    name = "judge"
    exported: ClassVar = {"judge": ""}
    lr = 2e-3
    warmup = 0.05
    ema_decay = 0.995
    bfloat16_on_cpu = True

    def __init__(self, size: int = 128, tiny: bool = False, batch: int | None = None) -> None:
        self.size, self.tiny = size, tiny
        small = tiny or size <= SMALL
        self.batch = batch or (16 if small else 128)
        self.widths = TINY_WIDTHS if tiny else SMALL_WIDTHS if small else WIDTHS

    def build(self, device: torch.device) -> None:
        """Make the net and the renderer on `device`."""
        self.judge = Judge(self.size, self.widths).to(device)
        self.renderer = Renderer(self.size, FRAMES, device)
        self.watch = compiled(self.judge.watch, self.name, device.type == "cuda" and self.options.compile)

    def modules(self) -> dict[str, nn.Module]:
        """Return the one net."""
        return {"judge": self.judge}

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float | Tensor]]:
        """Return binary cross-entropy of the objects plus cross-entropies of background and motion.

        Objects are asked of every frame and of the clip. Every other step has pairs alone: they are small,
        and both must be right.
        """
        counts = (2,) if step % 2 else (1, 2)
        scenes = sample_batch(self.batch, self.batch_seed(step), objects=counts)
        clips = self.renderer.frames_at(scenes, torch.tensor(JUDGE_FRAMES))
        verdict: Verdict = self.watch(degrade(clips, generator, DAMAGE))
        assert verdict.motion is not None
        assert verdict.frames is not None
        shown = on_device(present(scenes), clips.device)
        background, motion = (on_device(t, clips.device) for t in (scenes.background, scenes.motion))
        each = shown[:, None].expand_as(verdict.frames)
        objects = len(OBJECTS) * (
            functional.binary_cross_entropy_with_logits(verdict.objects.float(), shown)
            + functional.binary_cross_entropy_with_logits(verdict.frames.float(), each)
        )
        place = functional.cross_entropy(verdict.background.float(), background)
        moved = functional.cross_entropy(verdict.motion.float(), motion)
        figures: dict[str, float | Tensor] = {"objects": objects.detach(), "motion": moved.detach()}
        return objects + place + moved, figures

    def sheet(self, path: Path) -> None:
        """Write pictures with the judge's own reading of them."""
        scenes = sample_batch(32, 1)
        pictures = self.renderer.images(scenes)
        verdict = self.judge.look(pictures)
        kinds = verdict.kinds(torch.from_numpy(scenes.count))
        places = verdict.background.argmax(-1).tolist()
        texts = [
            f"{'+'.join(OBJECTS[kind].name for kind in found)} {BACKGROUNDS[place]}"
            for found, place in zip(kinds, places, strict=True)
        ]
        save_grid(pictures, path.with_suffix(".png"), captions=texts)

    def export(self, path: Path) -> None:
        """Write the folder that `load_judge` reads."""
        save_judge(self.judge, path)


def present(scenes: SceneBatch) -> Tensor:
    """Return 1.0 for the objects of every scene: float32 `[B, K]`."""
    shown = torch.zeros(len(scenes), len(OBJECTS))
    for i in range(scenes.kind.shape[1]):
        rows = torch.from_numpy((scenes.count > i).nonzero()[0])
        shown[rows, torch.from_numpy(scenes.kind[scenes.count > i, i])] = 1.0
    return shown
