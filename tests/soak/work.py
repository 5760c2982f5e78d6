"""What is asked: a few kinds of jobs, whose results depend on kind and seed alone."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from koma.client import Completed

SEEDS = 6
# Callers that ask for it again and again.
CALLERS = {"toy": 5, "amused": 3, "smolvlm2": 1, "ltx_video": 1}
TASKS = {
    "toy": "toy.run",
    "amused": "image.generate",
    "smolvlm2": "video.understand",
    "ltx_video": "video.generate",
}


@dataclass(frozen=True, slots=True)
class Work:
    """One job that can be asked for, with the same result each time."""

    kind: str
    seed: int

    @property
    def task(self) -> str:
        """The task of the request."""
        return TASKS[self.kind]

    def params(self) -> dict[str, Any]:
        """Return the parameters of the request."""
        return {"seed": self.seed, **_PARAMS[self.kind](self.seed)}

    def inputs(self, clip: str) -> dict[str, str]:
        """Return its inputs; ``clip`` is a stored video."""
        return {"video": clip} if self.kind == "smolvlm2" else {}


ALL = tuple(Work(kind, seed) for kind in TASKS for seed in range(1, SEEDS + 1))


def some(kind: str) -> Work:
    """Return one of a kind, by chance."""
    return Work(kind, random.randint(1, SEEDS))


def result(completed: Completed) -> tuple[str, ...]:
    """Return what was made: texts, and digests of files; for a toy without how long it took."""
    return tuple(output.artifact or _text(output.text or "") for output in completed.outputs)


def _text(text: str) -> str:
    try:
        told: Mapping[str, Any] = json.loads(text)
        return str(told["digest"])
    except (ValueError, KeyError, TypeError):
        return text


def _toy(seed: int) -> dict[str, Any]:
    heavy = {"output_bytes": 200_000} if seed % 3 == 0 else {}
    return {"steps": 20 + 20 * (seed % 3), "step_ms": 50, "tokens": seed % 2 == 0, **heavy}


_PARAMS = {
    "toy": _toy,
    "amused": lambda seed: {"prompt": "a sailboat on the sea", "steps": 4 + 2 * (seed % 3)},
    "smolvlm2": lambda seed: {"prompt": "What is it?", "max_new_tokens": 8 + seed},
    "ltx_video": lambda seed: {"prompt": "a cup of coffee moving right", "steps": 2 + seed % 2},
}
