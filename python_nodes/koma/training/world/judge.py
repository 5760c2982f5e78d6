"""The judge: a small convolutional classifier of pictures and clips, trained on rendered truth.

It takes no part in training any generator; the evaluation asks it what a generated picture or clip shows.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from .catalogue import BACKGROUNDS, MOTIONS, OBJECTS

FOLDER = Path(__file__).parents[2] / "checkpoints" / "emoji" / "judge"
CLIP_FRAMES = 5
"""Frames, evenly spread, by which the judge knows a motion."""
MOTION_WIDTH = 32
ABSENT = -3.7
"""First score of every object: the log odds of its being in a scene."""


@dataclass(frozen=True)
class Verdict:
    """Scores: `objects` `[N, K]` (a sigmoid each), `background` `[N, 6]` and, of clips, `motion` `[N, 7]`.

    Those of a clip are the means of its frames, whose own scores of objects are `frames` `[N, 5, K]`.
    """

    objects: Tensor
    background: Tensor
    motion: Tensor | None = None
    frames: Tensor | None = None

    def kinds(self, counts: Tensor) -> list[frozenset[int]]:
        """Return the `counts[i]` likeliest objects of sample i."""
        ranked = self.objects.argsort(-1, descending=True).tolist()
        return [frozenset(row[:count]) for row, count in zip(ranked, counts.tolist(), strict=True)]


class Judge(nn.Module):
    """A residual convolution net on single frames; motion is read from the feature maps of five frames."""

    def __init__(self, size: int = 128, widths: tuple[int, ...] = (24, 48, 96, 160)) -> None:
        super().__init__()
        self.size, self.widths = size, tuple(widths)
        stages: list[nn.Module] = []
        for before, after in zip((3, *widths[:-1]), widths, strict=True):
            stages += [nn.Conv2d(before, after, 3, stride=2, padding=1), _Residual(after)]
        self.trunk = nn.Sequential(*stages, _Residual(widths[-1]))
        self.objects = nn.Linear(2 * widths[-1], len(OBJECTS))
        nn.init.constant_(self.objects.bias, ABSENT)
        self.background = nn.Linear(2 * widths[-1], len(BACKGROUNDS))
        self.narrow = nn.Conv2d(widths[-1], MOTION_WIDTH, 1)
        grid = size // 2 ** len(widths)
        self.motion = nn.Sequential(
            nn.Conv2d(CLIP_FRAMES * MOTION_WIDTH, 96, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(96, 96, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(96 * (-(-grid // 2)) ** 2, 64),
            nn.SiLU(),
            nn.Linear(64, len(MOTIONS)),
        )

    def look(self, images: Tensor) -> Verdict:
        """Judge pictures `[N, 3, H, W]`, uint8 or float in [0, 1]."""
        return self._verdict(self._maps(images))

    def watch(self, clips: Tensor) -> Verdict:
        """Judge clips `[N, F, 3, H, W]`, uint8 or float in [0, 1]; F may be any number from 2."""
        count, total = clips.shape[:2]
        chosen = torch.linspace(0, total - 1, CLIP_FRAMES, device=clips.device).round().long()
        maps = self._maps(clips[:, chosen].flatten(0, 1))
        frames = self._verdict(maps)
        motion = self.motion(self.narrow(maps).unflatten(0, (count, CLIP_FRAMES)).flatten(1, 2))
        objects, background = (
            scores.unflatten(0, (count, CLIP_FRAMES)) for scores in (frames.objects, frames.background)
        )
        return Verdict(objects.mean(1), background.mean(1), motion, objects)

    def _maps(self, images: Tensor) -> Tensor:
        pixels = images.float() / 255 if images.dtype == torch.uint8 else images.float()
        if pixels.shape[-2:] != (self.size, self.size):
            size = (self.size, self.size)
            pixels = functional.interpolate(
                pixels, size, mode="bilinear", antialias=True, align_corners=False
            )
        maps: Tensor = self.trunk(pixels * 2 - 1)
        return maps

    def _verdict(self, maps: Tensor) -> Verdict:
        pooled = torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)
        return Verdict(self.objects(pooled), self.background(pooled))


class _Residual(nn.Module):
    """Two 3 × 3 convolutions around a skip connection, normalised over groups of channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1))
        self.second = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1))

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.second(self.first(maps))


def save_judge(judge: Judge, folder: Path = FOLDER) -> None:
    """Write the weights in float16 and what is needed to build the net."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.half().cpu().contiguous() for name, value in judge.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    config = asdict(_Config(judge.size, list(judge.widths), [kind.name for kind in OBJECTS]))
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def load_judge(folder: Path = FOLDER, device: str | torch.device = "cpu") -> Judge:
    """Read a judge in float32. Raises ValueError where it knows another catalogue."""
    config = _Config(**json.loads((folder / "config.json").read_text()))
    if config.objects != [kind.name for kind in OBJECTS]:
        raise ValueError(f"the judge in {folder} knows other objects: train it again")
    judge = Judge(config.size, tuple(config.widths))
    judge.load_state_dict(
        {name: value.float() for name, value in load_file(folder / "model.safetensors").items()}
    )
    return judge.to(device).eval()


@dataclass(frozen=True)
class _Config:
    size: int
    widths: list[int]
    objects: list[str]
