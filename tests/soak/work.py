"""What is asked: a few kinds of jobs, whose results depend on kind and seed alone."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from koma.client import Completed, Output, PipelineCompleted

SEEDS = 6
# Callers that ask for it again and again.
CALLERS = {"toy": 5, "amused": 3, "smolvlm2": 1, "ltx_video": 1, "story": 1}
TASKS = {
    "toy": "toy.run",
    "amused": "image.generate",
    "smolvlm2": "video.understand",
    "ltx_video": "video.generate",
}
KINDS = tuple(CALLERS)
# Equal to the last bit, whoever shares a forward pass; of the others the table tells how many are.
EXACT = ("toy", "amused")


@dataclass(frozen=True, slots=True)
class Work:
    """One job, or story, that can be asked for, with the same result each time."""

    kind: str
    seed: int

    @property
    def pipeline(self) -> bool:
        """Whether it is a pipeline."""
        return self.kind == "story"

    @property
    def needs_clip(self) -> bool:
        """Whether it begins with a video."""
        return self.kind in ("smolvlm2", "story")

    def request(self, clip: str) -> dict[str, Any]:
        """Return the request, which is kept whoever follows; ``clip`` is a stored video."""
        inputs = {"video": clip} if self.needs_clip else {}
        kept = {"inputs": inputs, "on_disconnect": "keep"}
        if self.pipeline:
            stages = {"caption": "smolvlm2", "image": "amused", "video": "ltx_video"}
            params = {stage: _params(kind, self.seed) for stage, kind in stages.items()}
            del params["image"]["prompt"], params["video"]["prompt"]
            return {**kept, "pipeline": "story", "params": params}
        return {**kept, "task": TASKS[self.kind], "params": _params(self.kind, self.seed)}


ALL = tuple(Work(kind, seed) for kind in KINDS for seed in range(1, SEEDS + 1))


def some(kind: str) -> Work:
    """Return one of a kind, by chance."""
    return Work(kind, random.randint(1, SEEDS))


def result(completed: Completed | PipelineCompleted) -> tuple[str, ...]:
    """Return what was made: texts, marks of pixels, digests of other files; of a toy no times.

    What is signed has its own time, so the files of equal pixels differ; the id in their mark is that of the
    pixels. A medium without both of its marks is an error.
    """
    outputs = completed.outputs
    named = outputs if isinstance(outputs, tuple) else [outputs[name] for name in sorted(outputs)]
    return tuple(_made(output) for output in named)


def _params(kind: str, seed: int) -> dict[str, Any]:
    return {"seed": seed, **_PARAMS[kind](seed)}


def _made(output: Output) -> str:
    if output.media_type.startswith(("image/", "video/")):
        marks = (output.meta or {}).get("marks", {})
        if not marks.get("signed") or "id" not in marks:
            raise AssertionError(f"{output.name} bears {marks}, not both marks")
        return str(marks["id"])
    return output.artifact or _text(output.text or "")


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
