"""What every part of the evaluation shares: folders, amounts, held-out samples and the judge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from koma.models.manifest import read
from koma.training.export import pipeline_arguments
from koma.training.world.captions import caption, parse
from koma.training.world.judge import Judge, load_judge
from koma.training.world.render import Renderer
from koma.training.world.scene import Medium, SceneBatch, Split, sample_batch

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints" / "emoji"
SEED = 7_000_001
"""First seed of the evaluation; training derives its seeds from hashes of 63 bits."""
SIZE, FRAMES, FPS = 128, 17, 8.0


@dataclass
class Context:
    """One evaluation: `samples` of each kind in batches of `batch`; sheets go to `out`/quality."""

    checkpoints: Path = CHECKPOINTS
    out: Path = Path("docs")
    samples: int = 500
    batch: int = 25
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    size: int = SIZE

    @cached_property
    def renderer(self) -> Renderer:
        """Draws the truth."""
        return Renderer(self.size, FRAMES, self.device)

    @cached_property
    def judge(self) -> Judge:
        """Knows what a picture or a clip shows."""
        return load_judge(self.checkpoints / "judge", self.device)

    @property
    def sheets(self) -> Path:
        """The folder of the sheets of worst samples."""
        return self.out / "quality"

    def scenes(self, part: int, split: Split, medium: Medium, n: int | None = None) -> SceneBatch:
        """Return the scenes of one part of the evaluation; `part` keeps the parts' seeds apart."""
        return sample_batch(n or self.samples, SEED + part, split, medium=medium)

    def batches(self, scenes: SceneBatch) -> Iterator[tuple[slice, SceneBatch]]:
        """Yield pieces of at most `batch` scenes with their place."""
        for start in range(0, len(scenes), self.batch):
            rows = slice(start, start + self.batch)
            yield rows, scenes[rows]

    def generator(self, seed: int) -> torch.Generator:
        """Return a generator on the device."""
        return torch.Generator(self.device).manual_seed(SEED + seed)

    def has(self, *families: str) -> bool:
        """Tell whether there are checkpoints of all these families."""
        return all((self.checkpoints / family).is_dir() for family in families)

    def defaults(self, family: str, *names: str) -> dict[str, Any]:
        """Return those pipeline arguments called `names` that the checkpoint's own `koma.json` recommends."""
        stored = pipeline_arguments(read(self.checkpoints / family, {}).defaults)
        return {name: value for name, value in stored.items() if name in names}


def native_size(checkpoints: Path) -> int:
    """Return the side in pixels for which these checkpoints were trained, as the first of them says."""
    judge, watcher = (checkpoints / family / "config.json" for family in ("judge", "smolvlm2"))
    if judge.is_file():
        return int(json.loads(judge.read_text())["size"])
    if watcher.is_file():
        return int(json.loads(watcher.read_text())["vision_config"]["image_size"])
    return SIZE


def prompts(scenes: SceneBatch, medium: Medium, seed: int) -> list[str]:
    """Return one caption per scene in any wording that names the background."""
    rng = np.random.default_rng(seed)
    texts = []
    for scene in scenes.scenes():
        text = caption(scene, rng, medium)
        while parse(text).background is None:
            text = caption(scene, rng, medium)
        texts.append(text)
    return texts


def psnr(made: Tensor, wanted: Tensor) -> list[float]:
    """Return the peak signal-to-noise ratio in dB of every sample, both uint8 or float in [0, 1]."""
    made, wanted = (
        t.float() / 255 if t.dtype == torch.uint8 else t.float().clamp(0, 1) for t in (made, wanted)
    )
    error = (made - wanted).square().flatten(1).mean(1).clamp(min=1e-10)
    values: list[float] = (-10 * error.log10()).tolist()
    return values
