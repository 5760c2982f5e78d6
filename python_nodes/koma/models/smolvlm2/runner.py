"""The phases of SmolVLM2, wired for the engine."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, cast

from koma.models import prompts
from koma.models.loading import Opened, open_checkpoint
from koma.models.media.sniff import IMAGE_TYPES, VIDEO_TYPES
from koma.models.smolvlm2 import encode, parts, step
from koma.models.smolvlm2.encode import AnswerState
from koma.models.smolvlm2.family import FAMILY
from koma.models.smolvlm2.params import understand_params
from koma.models.smolvlm2.vision import Vision
from koma.runtime.runner import InputSpec, Output, Preview, Request, Runner, State, TaskSpec

TASK = "video.understand"
_INPUTS = {
    "video": InputSpec(VIDEO_TYPES, "The video to look at; or give an image."),
    "image": InputSpec(IMAGE_TYPES, "The image to look at; or give a video."),
}


class SmolVlm2Runner:
    """Answers questions about videos and images; see :class:`koma.runtime.runner.Runner` for the phases."""

    preparers = 2
    """While one clip is encoded the next one is decoded, so that its turn comes after one step of the others,
    not after all the steps that the decoding takes."""

    def __init__(self, modules: parts.Parts, opened: Opened) -> None:
        self.loaded = opened.loaded
        self._parts = modules
        self._vision = Vision(modules)
        self._counter = prompts.Counter(modules.processor.tokenizer, modules.context, cut=False)
        params = understand_params(modules.max_frames, modules.fps, modules.context, opened.manifest)
        self.tasks: Mapping[str, TaskSpec] = {
            TASK: TaskSpec(
                params,
                _INPUTS,
                {"text": "text/plain"},
                steps=lambda checked: checked.max_new_tokens,
                count=lambda given: self._counter.told(prompts.texts(given)),
            )
        }

    def prepare(self, request: Request) -> AnswerState:
        """Look at the input and read the prompt."""
        return encode.start(request, self._parts, self._vision)

    def key(self, state: State) -> Hashable:
        """All answers share forwards, whatever their lengths."""
        return TASK

    def step(self, states: Sequence[State]) -> None:
        """One forward, one token for each of ``states``."""
        with self._parts.turns.turn():
            step.step(self._parts, cast(Sequence[AnswerState], states))

    def text(self, state: State) -> str:
        """The text that became certain in the last step."""
        return cast(AnswerState, state).fresh

    def preview(self, state: State) -> Preview | None:
        """The tokens are the preview."""
        return None

    def finish(self, state: State) -> list[Output]:
        """The whole answer."""
        answer = cast(AnswerState, state)
        meta = {
            **answer.sight.meta,
            "tokens": len(answer.tokens),
            **prompts.meta(answer.prompts),
            "seed": answer.seed,
        }
        return [Output("text", "text/plain", text=answer.text, meta=meta)]


def load(checkpoint: str, device: str, dtype: str, slots: int, options: Mapping[str, Any]) -> Runner:
    """Load a SmolVLM2 checkpoint; the arguments are those of :func:`koma.models.loading.open_checkpoint`.

    ``slots`` is the engine's business: nothing is laid out here for jobs that may come.
    """
    opened = open_checkpoint(FAMILY, checkpoint, device, dtype, options)
    return SmolVlm2Runner(parts.load(opened.folder, opened.placement), opened)
