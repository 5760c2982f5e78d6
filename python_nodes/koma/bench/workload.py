"""Requests of the three families, all drawn from a seed: nothing is tuned to one of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from koma.bench.setting import Setting
from koma.models.media import encode as media

TASKS = {"smolvlm2": "video.understand", "amused": "image.generate", "ltx_video": "video.generate"}

_NOUNS = ("cat", "cup", "boat", "tree", "star", "dog", "car", "moon", "fish", "house")
_PLACES = ("at night", "on the sea", "in the snow", "on grass", "in the desert")
_QUESTIONS = ("What happens?", "Describe this video.", "What moves, and where to?", "Name what is seen.")
_SIDE, _FRAMES, _FPS = 64, 16, 8


@dataclass(frozen=True)
class Request:
    """One request, for Koma and for the stock pipelines alike."""

    family: str
    params: dict[str, Any]
    clip: str | None = None
    """Path of the input of SmolVLM2."""

    @property
    def task(self) -> str:
        """The task that it asks for."""
        return TASKS[self.family]


class Workload:
    """Draws requests; clips are written to ``folder``."""

    def __init__(self, draw: random.Random, folder: Path, setting: Setting) -> None:
        self._draw = draw
        self._folder = folder
        self._params = setting.params

    def requests(self, family: str, count: int) -> list[Request]:
        """Return so many requests, each unlike the others."""
        return [self._request(family) for _ in range(count)]

    def arrivals(self, per_second: float, count: int) -> Iterator[float]:
        """Yield the times in seconds of a Poisson process."""
        now = 0.0
        for _ in range(count):
            now += self._draw.expovariate(per_second)
            yield now

    def _request(self, family: str) -> Request:
        seed = self._draw.randrange(2**31)
        if family == "smolvlm2":
            tokens = self._draw.randint(8, 32)
            params = {"prompt": self._draw.choice(_QUESTIONS), "max_new_tokens": tokens, "seed": seed}
            return Request(family, {**self._params[family], **params}, str(self._clip()))
        params = {"prompt": self._prompt(), "steps": self._draw.choice((6, 9, 12)), "seed": seed}
        return Request(family, {**self._params[family], **params})

    def _prompt(self) -> str:
        nouns = self._draw.sample(_NOUNS, 2)
        return f"a {nouns[0]} and a {nouns[1]} {self._draw.choice(_PLACES)}, {self._draw.randrange(10**6)}"

    def _clip(self) -> Path:
        """A clip of coloured blocks that drift, two seconds long."""
        noise = np.random.default_rng(self._draw.randrange(2**32))
        blocks = noise.integers(0, 255, (8, 8, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
        frames = np.stack([np.roll(blocks, 2 * number, axis=1) for number in range(_FRAMES)])
        return media.write_mp4(self._folder, frames[:, :_SIDE, :_SIDE], _FPS)
